"""Every command in README.md, CONTRIBUTING.md and docs/ runs, in a copy of the project with a small model.

A command that COMMANDS does not know fails: whoever writes one says here how it is tried.
"""

import re
import sys
from pathlib import Path

import pytest
import yaml

from permeation import config as configuration
from tests.support.project import PROJECT, call, duplicate

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
PROGRAMS = ("make", "dvc", "git", "permeation", "python", "pre-commit", ".ci/run", ".venv/bin/")
MAKE = "make -o .venv/ready"  # the environment is there
BACK = f"{MAKE} back"

# What is run, and what its output must show. Most commands run as they stand; the others have the reason beside them.
COMMANDS = {
    # The copy of the project is up to date, so that this takes seconds.
    "make repro": (f"{MAKE} repro", "Look at: report.html"),
    # Minutes each, and .ci/run runs them itself: only what make would do is looked at.
    "make setup": (f"{MAKE} -n setup", ""),
    "make test": (f"{MAKE} -n test", ".venv/bin/pytest"),
    "make coverage": (f"{MAKE} -n coverage", ".venv/bin/pytest"),
    "make audit": (f"{MAKE} -n audit", "pip-audit"),
    "make quick": (f"{MAKE} -n quick", "-S 'quick=true'"),
    "make lint": (f"{MAKE} -n lint", ".venv/bin/mypy"),
    ".ci/run": ("sh -n -v .ci/run", "make clean setup"),
    # Needs the default model, fast processors and minutes.
    "make bench": (f"{MAKE} -n bench && .venv/bin/python -m bench --help", "--repeats"),
    # All of them take minutes.
    "python -m bench.stages": (".venv/bin/python -m bench.stages --only tokenize_corpus", "| tokenize_corpus | "),
    # As far as the hub, which is kept out of reach.
    ".venv/bin/dvc exp run -S model=gpt2-medium": (
        f"HF_HUB_OFFLINE=1 .venv/bin/dvc exp run -S model=gpt2-medium; {BACK}",
        "fetch_model: model is 'gpt2-medium'; it is no folder here, and the Hugging Face hub cannot be reached",
    ),
    # tests/pipeline/test_end_to_end.py runs it.
    "make meaning WORDS=mine.yaml": (f"{MAKE} -n meaning WORDS=mine.yaml", "exp run -S words=mine.yaml report_meaning"),
    ".venv/bin/dvc exp run -S response.field=rank report_meaning": (
        f".venv/bin/dvc exp run -S response.field=rank report_meaning && {BACK}",
        "Running stage 'fit_g'",
    ),
    ".venv/bin/dvc exp run -S wqk.fold_norm=false reconstruct": (
        f".venv/bin/dvc exp run -S wqk.fold_norm=false reconstruct && {BACK}",
        "Running stage 'reconstruct'",
    ),
    "dvc exp run -S 'rivals.methods=[svd_plain,int_column]'": (
        f"dvc exp run -S 'rivals.methods=[svd_plain,int_column]' && {BACK}",
        "Running stage 'rivals'",
    ),
    "make back": (
        f".venv/bin/dvc exp run -S 'cluster.k=[2]' && {BACK} && .venv/bin/dvc repro",
        "Data and pipelines are up to date",
    ),
    # It writes what the comments were before `dvc exp run` took them.
    "python -m tools.reference": (
        f"dvc exp run -S device=cpu && python -m tools.reference && grep mean params.yaml && {BACK}",
        "# The W_QK that a cluster's heads get: centroid (their mean)",
    ),
    ".venv/bin/dvc exp run -S intervene.layers=all": (
        f".venv/bin/dvc exp run -S intervene.layers=all && {BACK}",
        "Running stage 'intervene'",
    ),
    "permeation summary": (None, "Look at: report.html"),
    "make help": (None, "run the whole pipeline"),
    "dvc repro": (None, "Data and pipelines are up to date"),
    "dvc repro --force fetch_model": (None, "Running stage 'fetch_model'"),
    "dvc repro reconstruct": (None, "Data and pipelines are up to date"),
    "dvc stage list": (None, "perplexity with all heads rebuilt from K components"),
    "dvc dag": (None, "report"),
    ".venv/bin/dvc plots diff HEAD workspace": (None, "index.html"),
    ".venv/bin/permeation experiments": (None, "as committed"),
    ".venv/bin/permeation compare HEAD workspace": (None, "1.000"),
    ".venv/bin/python -m stages.pca --help": (None, "--output-dir"),
    # The small model has 64 positions.
    ".venv/bin/python -m permeation.perplexity --model DIR --text FILE --max-tokens 8192": (
        ".venv/bin/python -m permeation.perplexity --model data/model --text data/corpus/corpus.txt "
        "--max-tokens 8192 --context 64",
        '"perplexity":',
    ),
}
# What is named and not run here.
NOT_RUN = {
    "make setup RAY=1": ".ci/run",
    ".venv/bin/dvc exp run -S rivals.methods=long -S 'rivals.bits=[3,4,5,6,8,12]' report_weights": (
        "long; tests/rivals fits every method of the list, tests/test_config.py reads it"
    ),
    ".venv/bin/dvc exp run -S engine.kind=ray": "tests/frame/test_engine.py, tests/pipeline/test_stages.py",
    "dvc exp run --temp": "named without its options",
    "python -m bench.engines": "a benchmark",
    "python -m bench.llama_1b FOLDER": "writes a model of 2 GB",
    ".venv/bin/dvc exp run -S model=gpt2 -S definitions=published -S words=mine.yaml": (
        "needs GPT-2; tests/pipeline/test_stages.py runs a list and the definitions as published"
    ),
    "python -m tools.numbers": "tests/tools/test_numbers.py; the pages' numbers are not those of the small model",
    ".venv/bin/dvc exp run -S 'rivals.methods=[pruned,int_column]'": "tests/pipeline/test_extending.py",
    "dvc repro --force": "a whole run",
    "git checkout HEAD -- dvc.lock": "git's own",
    ".venv/bin/dvc": "names the program",
    "dvc exp run": "named without its options",
    "dvc exp run -S key=value": "stands for others",
    ".venv/bin/dvc repro heads/dvc.yaml": "tests/pipeline/test_heads.py",
    "dvc repro heads/dvc.yaml": "the same",
    "make heads": "the same, then the summary and the page",
    "dvc metrics show": "DVC's own",
    "dvc plots show": "DVC's own",
    "pre-commit install": "pre-commit is not among the pinned packages",
}


def commands() -> list[str]:
    """The lines of the pages' indented blocks, and what stands in backticks and begins with a program's name."""
    blocks = re.sub(r" *\\\n +", " ", "\n".join(re.findall(r"^    (.+)$", FENCED.sub("", TEXT), re.MULTILINE)))
    lines = [line.split("  #")[0].rstrip() for line in blocks.splitlines()]
    quoted = (" ".join(each.split()) for each in re.findall(r"`([^`]+)`", FENCED.sub("", TEXT)))
    known = rf"({'|'.join(map(re.escape, PROGRAMS))})"
    asked = (each for each in quoted if re.match(rf"{known} |{known}$|\.venv/bin/\w", each))
    return list(dict.fromkeys([*(line for line in lines if re.match(rf"{known}", line)), *asked]))


FENCED = re.compile(r"```.*?```", re.DOTALL)


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, with .venv in it, as the README's commands have it."""
    copy = duplicate(finished_project, tmp_path_factory.mktemp("readme"))
    if not (copy / ".venv").exists():
        (copy / ".venv").symlink_to(sys.prefix)
    return copy


def test_every_command_is_known() -> None:
    assert set(commands()) == {*COMMANDS, *NOT_RUN}


@pytest.mark.end_to_end
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(project: Path, command: str) -> None:
    run, shown = COMMANDS[command]
    # Programs without a path are for a shell in which the environment is active.
    active = "" if command.startswith((".venv/bin/", "make ")) else 'PATH="$PWD/.venv/bin:$PATH"; '
    assert shown in call(project, "sh", "-c", f"{active}{run or command}")


# As a command gives them; not what the reader has yet to make.
SETTINGS = [
    (key, value)
    for key, value in re.findall(r"-S '?([\w.]+)=([^'`\s]+)", TEXT)
    if key != "key" and not value.startswith(('"$', "[pruned"))
]


@pytest.mark.parametrize(("key", "value"), SETTINGS)
def test_a_setting_is_accepted(tmp_path: Path, key: str, value: str) -> None:
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    *sections, name = key.split(".")
    section = params
    for part in sections:
        section = section[part]
    assert name in section
    section[name] = yaml.safe_load(value)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    configuration.load(tmp_path / "params.yaml")

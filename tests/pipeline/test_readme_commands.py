"""Every command in the README runs, in a copy of the project with a small model.

A command that COMMANDS does not know fails: whoever writes one says here how it is tried.
"""

import re
import sys
from pathlib import Path

import pytest
import yaml

from permeation import config as configuration
from tests.support.project import PROJECT, call, duplicate

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PROGRAMS = ("make", "dvc", "permeation", "python", ".ci/run", ".venv/bin/")
MAKE = "make -o .venv/ready"  # the environment is there

# What is run, and what its output must show. Most commands run as they stand; the others have the reason beside them.
COMMANDS = {
    # The copy of the project is up to date, so that this takes seconds.
    "make repro": (f"{MAKE} repro", "Look at: report.html"),
    # Minutes each, and .ci/run runs them itself: only what make would do is looked at.
    "make test": (f"{MAKE} -n test", ".venv/bin/pytest"),
    "make coverage": (f"{MAKE} -n coverage", ".venv/bin/pytest"),
    "make audit": (f"{MAKE} -n audit", "tests.audit"),
    "make lint": (f"{MAKE} -n lint", ".venv/bin/mypy"),
    ".ci/run": ("sh -n -v .ci/run", "make clean setup"),
    # Needs the default model, fast processors and minutes.
    "make bench": (f"{MAKE} -n bench && .venv/bin/python -m bench --help", "--repeats"),
    "python -m bench.stages": (".venv/bin/python -m bench.stages && git checkout -q bench", "| report | "),
    # As far as the hub, which is kept out of reach.
    ".venv/bin/dvc exp run -S model=gpt2-medium": (
        "HF_HUB_OFFLINE=1 .venv/bin/dvc exp run -S model=gpt2-medium; "
        "git checkout params.yaml && .venv/bin/dvc checkout",
        "fetch_model: model is 'gpt2-medium'; it is no folder here and the Hugging Face hub did not give it",
    ),
    ".venv/bin/dvc exp run -S wqk.fold_norm=false reconstruct": (
        ".venv/bin/dvc exp run -S wqk.fold_norm=false reconstruct && git checkout params.yaml dvc.lock "
        "&& .venv/bin/dvc checkout",
        "Running stage 'reconstruct'",
    ),
    "make help": (None, "run the whole pipeline"),
    "permeation summary": (None, "Look at: report.html"),
    "dvc repro": (None, "Data and pipelines are up to date"),
    ".venv/bin/dvc repro": (None, "Data and pipelines are up to date"),
    "dvc repro --force fetch_model": (None, "Running stage 'fetch_model'"),
    ".venv/bin/dvc plots diff HEAD workspace": (None, "index.html"),
    # Nothing has changed, so that without --all there is nothing to show.
    ".venv/bin/dvc metrics diff": (".venv/bin/dvc metrics diff --all", "word_correlation_mean"),
    ".venv/bin/permeation compare HEAD workspace": (None, "1.000"),
    ".venv/bin/dvc exp show --no-pager --hide-workspace --md --precision 3 --drop '.*' "
    "--keep 'Experiment|params.*:model|(word|null)_correlation_mean$|^components_for_variance.90|ratio.64$'": (
        None,
        "word_correlation_mean",
    ),
    ".venv/bin/python -m stages.pca --help": (None, "--output-dir"),
    # The small model has 64 positions.
    ".venv/bin/python -m permeation.perplexity --model DIR --text FILE --max-tokens 8192": (
        ".venv/bin/python -m permeation.perplexity --model data/model --text data/corpus/corpus.txt "
        "--max-tokens 8192 --context 64",
        '"perplexity":',
    ),
}


def commands() -> list[str]:
    """The lines of the README's indented blocks, and what stands in backticks and begins with a program's name."""
    blocks = re.sub(r" *\\\n +", " ", "\n".join(re.findall(r"^    (.+)$", README, re.MULTILINE)))
    lines = [line.split("  #")[0].rstrip() for line in blocks.splitlines()]
    quoted = (" ".join(each.split()) for each in re.findall(r"`([^`]+)`", README))
    return list(dict.fromkeys(lines + [each for each in quoted if re.match(rf"({'|'.join(PROGRAMS)})( |$|\w)", each)]))


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, with .venv in it, as the README's commands have it."""
    copy = duplicate(finished_project, tmp_path_factory.mktemp("readme"))
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


def test_every_command_is_known() -> None:
    assert set(commands()) == set(COMMANDS)


@pytest.mark.end_to_end
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(project: Path, command: str) -> None:
    run, shown = COMMANDS[command]
    assert shown in call(project, "sh", "-c", run or command)


@pytest.mark.parametrize(("key", "value"), re.findall(r"-S '?([\w.]+)=([^'`\s]+)", README))
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

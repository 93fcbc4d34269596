"""A copy of the project that runs in a minute: what git tracks, small random models, and parameters that fit them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support import tiny

PROJECT = Path(__file__).parents[2]


def stages_of(file: str) -> dict[str, Any]:
    """The stages of a DVC file by name."""
    return yaml.safe_load((PROJECT / file).read_text(encoding="utf-8"))["stages"]


# In the order of the files, in which each finds what it reads.
STAGES: list[str] = list(stages_of("dvc.yaml"))
ON_DEMAND: list[str] = list(stages_of("heads/dvc.yaml"))
REPORTS = {"report_meaning", "report_weights", "claims"}
WHOLE_FILE = {"check", *REPORTS}  # run when any setting changes
# The script of each stage and its arguments, as the files call them.
PROGRAMS: dict[str, list[str]] = {
    name: stage["cmd"].split()[1:]
    for file in ("dvc.yaml", "heads/dvc.yaml", "models/dvc.yaml")
    for name, stage in stages_of(file).items()
}


def environment(project: Path) -> dict[str, str]:
    """Of a command run in the project: its environment active, one thread, nobody's settings; a notebook's backend."""
    return {
        "PATH": f"{project / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(project / "src"),
        "HOME": str(project.parent / "home"),
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


def call(project: Path, *command: str, check: bool = True, **variables: str) -> str:
    """Run a command in the project; gives what it printed."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False}
    done = subprocess.run(command, cwd=project, env=environment(project) | variables, **streams)
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout


def stages_run(output: str) -> list[str]:
    """The stages that DVC says it runs."""
    return re.findall(r"Running stage '(?:heads/dvc.yaml:)?(\w+)'", output)


def rewrite(path: Path, changes: dict[str, str]) -> None:
    """Replace each text, which has to be there, by the other."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def create(root: Path) -> Path:
    """The project in root/project, run once and committed; its models and its text are in `root`."""
    project = root / "project"
    left_out = (":!metrics", ":!plots", ":!docs", ":!*dvc.lock")
    for name in call(PROJECT, "git", "ls-files", "-co", "--exclude-standard", "--", *left_out).splitlines():
        if (PROJECT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, project / name)
    (root / "home").mkdir()
    (root / "home" / ".gitconfig").write_text("[user]\nname = Nobody\nemail = nobody@example.org\n")
    for family in ("llama", "gpt2"):
        tiny.checkpoint(root / family, family)
    shutil.copy(tiny.WORDS_FILE, root / "text.txt")
    smaller = {
        "model: smollm2-135m\n": f"model: {root / 'llama'}\n",
        "corpus: wiki-sample\n": f"corpus: {root / 'text.txt'}\n",
        "context: 512": "context: 16",
        "exclude_final: 2": "exclude_final: 1",  # of four layers: two points more than 0 are what a x^α needs
        "draws: 200": "draws: 3",
        "permutations: 2000": "permutations: 9",
        "tokens: 8192": "tokens: 128",
        "max_tokens: 16384": "max_tokens: 128",
        '    - 16\n    - 32\n    - 64\n    - "50%"\n    - "80%"\n': "",
        "    - 16\n    - 32\n": "",
        "    - 3\n    - 4\n    - 6\n": "    - 8\n",
    }
    rewrite(project / "params.yaml", smaller)
    (style,) = (project / "src").rglob("*.mplstyle")  # charts drawn fast
    rewrite(style, {"layout.use: True": "layout.use: False", "dpi: 200": "dpi: 40"})
    (project / ".venv").symlink_to(sys.prefix)
    commit = "git add -A && git commit -qm all"
    call(project, "sh", "-c", f"git init -q -b main && {commit}")
    output = call(project, "dvc", "repro")
    assert set(stages_run(output)) == set(STAGES), output
    call(project, "sh", "-c", commit)
    return project


def duplicate(project: Path, root: Path) -> Path:
    """A copy of a project, run or not, in root/project; the models and the text stay where they are."""
    shutil.copytree(project, root / "project", symlinks=True)
    shutil.copytree(project.parent / "home", root / "home")
    return root / "project"


def results(project: Path) -> dict[str, bytes]:
    """What the pipeline publishes, by file."""
    files = [path for name in ("metrics", "plots") for path in (project / name).rglob("*.*")]
    return {str(path.relative_to(project)): path.read_bytes() for path in files}

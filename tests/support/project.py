"""A copy of the project that runs in a minute: what git tracks, small random models, and parameters that fit them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support import tiny

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# In the order of dvc.yaml, in which each finds what it reads.
STAGES: list[str] = list(yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"])


def environment(project: Path) -> dict[str, str]:
    """Of a command run in the project: one thread, nobody's settings, and no environment on PATH but what `make` needs.

    The package is the project's own copy; the environment has the one it was made for.
    """
    home = project.parent / "home"
    path = [each for each in os.environ["PATH"].split(":") if Path(each).resolve() != BIN.resolve()]
    return {
        "PATH": ":".join(path),
        "PYTHONPATH": str(project / "src"),
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "SHELL": "/bin/sh",
        "OMP_NUM_THREADS": "1",
    }


def call(project: Path, command: str, *arguments: str, check: bool = True, **variables: str) -> str:
    """Run a command in the project, its environment's where that has it; gives what it printed."""
    own = project / ".venv" / "bin" / command
    done = subprocess.run(
        [str(own) if own.exists() else command, *arguments],
        cwd=project,
        env=environment(project) | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout + done.stderr


def link_environment(project: Path) -> None:
    """Give the project the .venv of this Python, as `make setup` leaves one: with tools/dvc in place of its dvc."""
    venv = project / ".venv"
    (venv / "bin").mkdir(parents=True)
    for folder in (Path(sys.prefix), Path(sys.prefix, "bin")):
        for each in folder.iterdir():
            if each.name not in ("bin", "dvc", "ready"):
                (venv / each.relative_to(sys.prefix)).symlink_to(each)
    shutil.copy(project / "tools" / "dvc", venv / "bin" / "dvc")
    (venv / "ready").write_text(f"{project}\n")


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def rewrite(path: Path, changes: dict[str, str]) -> None:
    """Replace each text, which has to be there, by the other."""
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def create(root: Path) -> Path:
    """The project in root/project, committed, not run; its models and its text are in `root`."""
    project = root / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file() and not name.startswith(("metrics/", "plots/", "dvc.lock")):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, project / name)
    (root / "home").mkdir()
    (root / "home" / "gitconfig").write_text("[user]\nname = Nobody\nemail = nobody@example.org\n")
    tiny.checkpoint(root / "llama", "llama")
    tiny.checkpoint(root / "gpt2", "gpt2")
    (root / "text.txt").write_text((PROJECT / "data" / "words.yaml").read_text())
    smaller = {
        "model: smollm2-135m": f"model: {root / 'llama'}",
        "corpus: wiki-sample": f"corpus: {root / 'text.txt'}",
        "context: 512": "context: 16",
        "exclude_final: 2": "exclude_final: 1",  # of four layers: two points more than 0 are what a x^α needs
        "draws: 200": "draws: 3",
        "permutations: 2000": "permutations: 9",
        "tokens: 8192": "tokens: 128",
        "max_tokens: 16384": "max_tokens: 128",
        "windows: 8": "windows: 2",
        "context: 128": "context: 12",
        '    - 16\n    - 32\n    - 64\n    - "50%"\n    - "80%"\n': "",
        "    - 16\n    - 32\n": "",
    }
    rewrite(project / "params.yaml", smaller)
    rewrite(
        project / "src" / "permeation" / "report" / "figures" / "style.mplstyle",  # charts drawn fast
        {"constrained_layout.use: True": "constrained_layout.use: False", "savefig.dpi: 200": "savefig.dpi: 40"},
    )
    link_environment(project)
    call(project, "git", "init", "-q")
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "start")
    return project


def finish(project: Path) -> Path:
    """Run the pipeline once and commit what it wrote."""
    output = call(project, "dvc", "repro")
    assert set(stages_run(output)) == set(STAGES), output
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "first run")
    return project


def duplicate(project: Path, root: Path) -> Path:
    """A copy of a project, run or not, in root/project; the models and the text stay where they are."""
    shutil.copytree(project, root / "project", symlinks=True)
    (root / "project" / ".venv" / "ready").write_text(f"{root / 'project'}\n")
    (root / "home").mkdir()
    shutil.copy(project.parent / "home" / "gitconfig", root / "home")
    return root / "project"

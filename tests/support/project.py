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
STAGES: list[str] = list(yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"])


def environment(project: Path) -> dict[str, str]:
    """Of a command run in the project: this Python's programs, one thread, and nobody's settings."""
    home = project.parent / "home"
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "SHELL": "/bin/sh",
        "OMP_NUM_THREADS": "1",
    }


def call(project: Path, *command: str, check: bool = True, **variables: str) -> str:
    """Run a command of the environment in the project; gives what it printed."""
    done = subprocess.run(
        command, cwd=project, env=environment(project) | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


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
    settings = (project / "params.yaml").read_text()
    for old, new in {
        "model: smollm2-135m": f"model: {root / 'llama'}",
        "corpus: wiki-sample": f"corpus: {root / 'text.txt'}",
        "context: 512": "context: 16",
        "max_tokens: 4096": "max_tokens: 128",
        "exclude_final: 2": "exclude_final: 1",  # of four layers: two points more than 0 are what a x^α needs
        "draws: 200": "draws: 3",
        "permutations: 2000": "permutations: 9",
        "tokens: 8192": "tokens: 128",
        "max_tokens: 16384": "max_tokens: 64",
        "    - 16\n    - 32\n    - 64\n": "",
        "    - 16\n    - 32\n": "",
    }.items():
        assert old in settings
        settings = settings.replace(old, new)
    (project / "params.yaml").write_text(settings)
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
    (root / "home").mkdir()
    shutil.copy(project.parent / "home" / "gitconfig", root / "home")
    return root / "project"

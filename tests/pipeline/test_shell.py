"""The shell scripts, read by shellcheck, and what the Makefile says. Nothing starts tools/slurm.sbatch here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

# In the environment, which need not be on PATH, or of the machine.
SHELLCHECK = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (make setup installs it)")
def test_the_shell_scripts_have_no_findings() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.splitlines() if (PROJECT / name).is_file()]
    scripts = [name for name in files if (PROJECT / name).read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))]
    assert {*scripts} == {"stages/run", ".ci/run", "tools/slurm.sbatch"}
    done = subprocess.run([str(SHELLCHECK), *scripts], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_make_meaning_names_a_file_that_is_not_there() -> None:
    command = ["make", "-o", ".venv/ready", "meaning", "WORDS=no such.yaml"]
    environment = {"PATH": os.environ["PATH"]}  # what a make above hands on stays out
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    accepted = "a file as data/words.yaml or a table of sentences"
    assert done.stderr.startswith(f"WORDS is no such.yaml; accepted: {accepted}\n")

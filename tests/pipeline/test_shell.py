"""The shell scripts, read by shellcheck, and the Makefile's quoting. Nothing starts tools/slurm.sbatch here."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import PROJECT

# In the environment, which need not be on PATH, or of the machine.
SHELLCHECK = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")


def shell_scripts() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.splitlines() if (PROJECT / name).is_file()]
    return [name for name in files if (PROJECT / name).read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))]


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (make setup installs it)")
def test_the_shell_scripts_have_no_findings() -> None:
    scripts = shell_scripts()
    assert {*scripts} == {"stages/run", ".ci/run", "tools/slurm.sbatch"}
    done = subprocess.run([str(SHELLCHECK), *scripts], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_line_ends_are_lf_whatever_git_is_told() -> None:
    command = ["git", "check-attr", "eol", *shell_scripts()]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert all(line.endswith(": eol: lf") for line in said.splitlines())


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell: what a make above hands on in the environment stays out."""
    command, environment = ["make", "-o", ".venv/ready", *arguments], {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["words.yaml", "mine/wörter.yaml", "my words.yaml"])
def test_make_meaning_hands_any_path_on(name: str) -> None:
    (command,) = (line for line in make("-n", "meaning", f"WORDS={name}").stdout.splitlines() if " exp run " in line)
    words = shlex.split(command)
    override = OverridesParser.create().parse_override(words[words.index("-S") + 1])
    assert (override.key_or_group, str(override.value()).strip('"')) == ("words", name)


def test_make_meaning_names_a_file_that_is_not_there() -> None:
    done = make("meaning", "WORDS=no such.yaml")
    assert done.returncode != 0
    assert done.stderr.startswith("WORDS is no such.yaml; accepted: a file as data/words.yaml\n")

"""What stands around the package: locks, Makefile, shell scripts. Nothing starts tools/slurm.sbatch here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

# In the environment, which need not be on PATH, or of the machine.
SHELLCHECK = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command in the project's folder; what a make above hands on stays out."""
    environment = {key: os.environ[key] for key in ("PATH", "HOME")}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (make setup installs it)")
def test_the_shell_scripts_have_no_findings() -> None:
    files = [name for name in run("git", "ls-files").stdout.splitlines() if (PROJECT / name).is_file()]
    scripts = [name for name in files if (PROJECT / name).read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))]
    assert {*scripts} == {"stages/run", ".ci/run", "tools/slurm.sbatch"}
    done = run(str(SHELLCHECK), *scripts)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    ("pip_audit", "code", "said"),
    [
        ("echo 'jinja2 3.1.5 PYSEC-1 3.1.6'; exit 1", 2, "jinja2 3.1.5 PYSEC-1 3.1.6"),
        ("echo 'ConnectionError' >&2; exit 1", 0, "not audited: pip-audit could not reach its service"),
    ],
)
def test_an_audit_fails_on_a_finding_alone(tmp_path: Path, pip_audit: str, code: int, said: str) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{pip_audit}\n")
    program.chmod(0o755)
    done = run("make", "-o", ".venv/ready", f"BIN={tmp_path}", "audit")
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr

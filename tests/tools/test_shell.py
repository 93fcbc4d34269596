"""The shell scripts, read by shellcheck. No other test starts tools/slurm.sbatch: there is no cluster to run it on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

# In the environment, which need not be on PATH, or of the machine.
SHELLCHECK = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")
SCRIPTS = ("tools/slurm.sbatch", "stages/run", "tools/dvc", ".ci/run")
pytestmark = pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (make setup installs it)")


def findings(script: Path) -> str:
    done = subprocess.run([str(SHELLCHECK), script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_script_has_no_findings(name: str) -> None:
    assert findings(PROJECT / name) == ""


def test_every_shell_script_is_read() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    starts = {name: (PROJECT / name).read_bytes()[:20] for name in listed.splitlines() if (PROJECT / name).is_file()}
    shell = {name for name, start in starts.items() if start.startswith((b"#!/bin/sh", b"#!/bin/bash"))}
    assert shell == set(SCRIPTS)


def test_a_fault_is_found(tmp_path: Path) -> None:
    script = tmp_path / "run"
    script.write_text("#!/bin/sh\nrm -rf $1/build\n")
    assert "SC2086" in findings(script)

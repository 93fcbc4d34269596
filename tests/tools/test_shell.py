"""The shell scripts, read by shellcheck. No other test starts tools/slurm.sbatch: there is no cluster to run it on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

# In the environment, which need not be on PATH, or of the machine.
SHELLCHECK = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")
SCRIPTS = ("tools/slurm.sbatch", "stages/run", "tools/dvc", ".ci/run")
needs_shellcheck = pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (make setup installs it)")


def findings(script: Path) -> str:
    done = subprocess.run([str(SHELLCHECK), script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@needs_shellcheck
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_script_has_no_findings(name: str) -> None:
    assert findings(PROJECT / name) == ""


def test_every_shell_script_is_read() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    starts = {name: (PROJECT / name).read_bytes()[:20] for name in listed.splitlines() if (PROJECT / name).is_file()}
    shell = {name for name, start in starts.items() if start.startswith((b"#!/bin/sh", b"#!/bin/bash"))}
    assert shell == set(SCRIPTS)


@needs_shellcheck
def test_a_fault_is_found(tmp_path: Path) -> None:
    script = tmp_path / "run"
    script.write_text("#!/bin/sh\nrm -rf $1/build\n")
    assert "SC2086" in findings(script)


def test_a_stage_is_found_where_python_does_not_look_into_its_own_folder() -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["stages/run", "no_such_stage"],
        cwd=PROJECT,
        env=os.environ | {"PATH": path, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named stages.no_such_stage" in done.stderr

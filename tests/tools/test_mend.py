"""What a killed DVC left cut off: tools/dvc mends it, and leaves alone what is whole or being written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
import zc.lockfile

from tests.conftest import PROJECT

LOCK = (PROJECT / "dvc.lock").read_text(encoding="utf-8")
STAGES = yaml.safe_load(LOCK)["stages"]


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tools/dvc in an environment whose `python -m dvc` does nothing, in a project that DVC has run in."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / "tools").symlink_to(PROJECT / "tools")
    shutil.copy(PROJECT / "tools" / "dvc", programs)
    (programs / "python").write_text(f'#!/bin/sh\n[ "$1" = -m ] || exec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return programs / "dvc"


def call(dvc: Path) -> str:
    done = subprocess.run([dvc, "status"], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("end", [LOCK.index("\n  pca:") + 40, len(LOCK) // 2, len(LOCK) - 1])
def test_a_lock_file_that_was_cut_off_keeps_the_stages_that_are_all_there(dvc: Path, end: int) -> None:
    Path("dvc.lock").write_text(LOCK[:end], encoding="utf-8")
    said = call(dvc)
    kept = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
    begun = [name for name in STAGES if f"\n  {name}:" in LOCK[:end]]
    assert kept == {name: STAGES[name] for name in begun[:-1]}
    assert f"dvc.lock was cut off within {begun[-1]}, as DVC was killed" in said
    assert call(dvc) == ""


@pytest.mark.parametrize("end", [0, 10, LOCK.index("\n  fetch_model:") + 20])
def test_a_lock_file_without_a_whole_stage_is_removed(dvc: Path, end: int) -> None:
    Path("heads").mkdir()
    Path("heads/dvc.lock").write_text(LOCK[:end], encoding="utf-8")
    assert "heads/dvc.lock was cut off " in call(dvc)
    assert not Path("heads/dvc.lock").exists()


@pytest.mark.parametrize("content", ["", '{"write": {"data/pca": {"pid'])
def test_an_rwlock_that_was_cut_off_is_removed(dvc: Path, content: str) -> None:
    Path(".dvc/tmp/rwlock").write_text(content)
    call(dvc)
    assert not Path(".dvc/tmp/rwlock").exists()


def test_what_is_whole_stays(dvc: Path) -> None:
    Path("dvc.lock").write_text(LOCK, encoding="utf-8")
    Path(".dvc/tmp/rwlock").write_text("{}")
    assert call(dvc) == ""
    assert Path("dvc.lock").read_text(encoding="utf-8") == LOCK
    assert Path(".dvc/tmp/rwlock").read_text() == "{}"


def test_a_file_that_dvc_is_writing_is_left_alone(dvc: Path) -> None:
    Path("dvc.lock").write_text(LOCK[:5000], encoding="utf-8")
    lock = zc.lockfile.LockFile(".dvc/tmp/lock")
    assert call(dvc) == ""
    lock.close()
    assert Path("dvc.lock").read_text(encoding="utf-8") == LOCK[:5000]

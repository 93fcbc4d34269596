"""A run under DVC that is interrupted goes on where it was, to the results of an undisturbed run, byte for byte."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support.project import REPORTS, call, duplicate, environment, results, stages_run

pytestmark = pytest.mark.end_to_end
GRACE = 20  # seconds in which all of an interrupted run has to be gone


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, for these tests to disturb; each leaves it as it was."""
    return duplicate(finished_project, tmp_path_factory.mktemp("faults"))


def forget(project: Path, stage: str) -> Path:
    """Let it be as if the stage had never run; gives its journal."""
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    for out in lock["stages"].pop(stage)["outs"]:
        shutil.rmtree(project / out["path"])
    (project / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    for runs in list((project / ".dvc" / "cache" / "runs").glob("*/*")):
        if any(f"path: data/{stage}\n" in run.read_text() for run in runs.iterdir()):
            shutil.rmtree(runs)  # its own, and those of what reads it
    journal = project / "data" / ".journal" / f"{stage}.jsonl"
    journal.unlink(missing_ok=True)
    return journal


def entries(journal: Path) -> list[str]:
    """The whole lines of a journal."""
    lines = journal.read_text().splitlines(keepends=True) if journal.is_file() else []
    return [line for line in lines if line.endswith("\n")]


def interrupt(project: Path, ready: Callable[[], bool], number: signal.Signals, log: Path) -> None:
    """Start `dvc repro` in a process group of its own, as a shell does, and signal the group as soon as `ready`.

    Raises AssertionError where DVC ends before that, and where a process of it survives.
    """
    with log.open("ab") as output:
        dvc = subprocess.Popen(
            [project / ".venv" / "bin" / "dvc", "repro"],
            cwd=project,
            env=environment(project),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while not ready():
        assert dvc.poll() is None, log.read_text()
        time.sleep(0.005)
    running = psutil.Process(dvc.pid).children(recursive=True)
    os.killpg(dvc.pid, number)
    dvc.wait(GRACE)
    _, alive = psutil.wait_procs(running, GRACE)
    assert not alive, [each.cmdline() for each in alive]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_stage_measures_only_what_is_missing(
    finished_project: Path, project: Path, tmp_path: Path, number: signal.Signals
) -> None:
    journal = forget(project, "reconstruct")
    interrupt(project, lambda: len(entries(journal)) >= 2, number, tmp_path / "log")
    assert [path for path in (project / "data").glob(".*") if path.name != ".journal"] == [] or number == signal.SIGKILL
    kept = entries(journal)
    assert set(stages_run(call(project, "dvc", "repro"))) <= {"reconstruct", *REPORTS}
    assert results(project) == results(finished_project)
    assert entries(journal)[: len(kept)] == kept
    undisturbed = finished_project / "data" / ".journal" / journal.name
    assert len(entries(journal)) == len(entries(undisturbed))


def test_a_lock_that_a_kill_cut_off_goes_as_the_page_says(finished_project: Path, project: Path) -> None:
    """docs/troubleshooting.md: DVC writes dvc.lock and its rwlock in place, and without a lock asks its run cache."""
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text()[:-100])
    (project / ".dvc" / "tmp" / "rwlock").write_text("")
    assert stages_run(call(project, "dvc", "repro", check=False)) == []
    call(project, "sh", "-c", "rm -f .dvc/tmp/rwlock dvc.lock")
    assert set(stages_run(call(project, "dvc", "repro"))) <= REPORTS
    assert results(project) == results(finished_project)

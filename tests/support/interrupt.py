"""Interrupt a running `dvc repro` at a chosen moment of a chosen stage, and see what is left of it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from permeation.frame.sealed import broken
from tests.support.project import environment

GRACE = 10  # seconds in which all of an interrupted run has to be gone
# What the stages write whose output is not called as they are.
PLACES = {
    "fetch_model": "data/model",
    "fetch_corpus": "data/corpus",
    "report_meaning": "plots/meaning",
    "report_weights": "plots/weights",
    "report": "report.html",
}

SIGNALS: dict[str, Callable[[int], None]] = {
    "Ctrl-C": lambda dvc: os.killpg(dvc, signal.SIGINT),
    "SIGTERM to dvc": lambda dvc: os.kill(dvc, signal.SIGTERM),
    "SIGKILL to dvc": lambda dvc: os.kill(dvc, signal.SIGKILL),
    "SIGKILL to all": lambda dvc: os.killpg(dvc, signal.SIGKILL),
}


def start(project: Path, log: Path) -> subprocess.Popen[bytes]:
    """`dvc repro` in a process group of its own, as a shell starts it."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [project / ".venv" / "bin" / "dvc", "repro"],
            cwd=project,
            env=environment(project),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # whatever runs the tests
        )


def wait_for(dvc: subprocess.Popen[bytes], stage: str) -> psutil.Process | None:
    """The process of `stage` as soon as `dvc` has started it, or None where dvc ends without that."""
    while dvc.poll() is None:
        try:
            for process in psutil.Process(dvc.pid).children(recursive=True):
                if process.cmdline()[-1:] in ([stage], [f"stages.{stage}"], [f"stages/run {stage}"]):
                    return process
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.01)
    return None


def interrupt(project: Path, stage: str, how: str, moment: str, rng: np.random.Generator, log: Path) -> bool:
    """Start `dvc repro`, interrupt it when `stage` is at `moment`; gives whether the stage was running then.

    Raises AssertionError where the stage was never started, a process survives, or something half-written stands
    where a result belongs.
    """
    dvc = start(project, log)
    process = wait_for(dvc, stage)
    assert process is not None, f"dvc ended without running {stage}: {log.read_text()}"
    if moment == "writing":
        place = project / PLACES.get(stage, f"data/{stage}")
        with suppress(psutil.NoSuchProcess):  # the stage may end first; then the signal meets what comes after it
            while process.status() != psutil.STATUS_ZOMBIE:
                if next(place.parent.glob(f".{place.name}.*"), None):
                    break
                time.sleep(0.001)
    else:
        time.sleep(rng.uniform(0, 0.5) if moment == "starting" else rng.uniform(0.5, 4))
    running: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess, ProcessLookupError):  # so may dvc
        running = psutil.Process(dvc.pid).children(recursive=True)
        SIGNALS[how](dvc.pid)
    hit = process in running
    dvc.wait(GRACE)
    _, alive = psutil.wait_procs(running, GRACE)
    assert not alive, f"{how} while {stage} was {moment} left {[each.cmdline() for each in alive]}"
    half_written = {folder: damaged for folder in (project / "data").glob("[!.]*/") if (damaged := broken(folder))}
    assert not half_written, half_written
    return hit

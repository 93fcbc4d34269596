"""Interrupt a running `dvc repro` while a chosen stage works, and see that nothing is left of it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.project import environment

GRACE = 20  # seconds in which all of an interrupted run has to be gone
SIGNALS: dict[str, Callable[[int], None]] = {
    "Ctrl-C": lambda dvc: os.killpg(dvc, signal.SIGINT),
    "kill": lambda dvc: os.killpg(dvc, signal.SIGKILL),
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


def interrupt(project: Path, ready: Callable[[], bool], how: str, log: Path) -> None:
    """Start `dvc repro`, and interrupt it as soon as `ready`.

    Raises AssertionError where DVC ends before that, and where a process of it survives.
    """
    dvc = start(project, log)
    while not ready():
        assert dvc.poll() is None, log.read_text()
        time.sleep(0.005)
    running = psutil.Process(dvc.pid).children(recursive=True)
    SIGNALS[how](dvc.pid)
    dvc.wait(GRACE)
    _, alive = psutil.wait_procs(running, GRACE)
    assert not alive, [each.cmdline() for each in alive]

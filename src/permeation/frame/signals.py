"""Ending in order: Ctrl-C, SIGTERM, and a DVC that is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

GRACE = 5  # seconds to leave in order


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise SystemExit, so that drafts and child processes are put away."""

    def leave(number: int, _: object) -> None:
        signal.alarm(GRACE)  # the end, should a library swallow what is raised here
        sys.exit(128 + number)

    # Ctrl-C is not for a process that was started with it ignored.
    numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_dvc() -> None:
    """End this process when the DVC that started it is gone, as after a SIGKILL to DVC alone.

    Called before a stage imports what takes seconds (stages/__init__.py). Before and after a stage's `main` there is
    nothing to put away, and a signal ends the process where it stands.
    """
    if "DVC_STAGE" in os.environ:  # pragma: no cover (tests/pipeline/test_faults.py: under DVC)
        _watch_dvc()


def _watch_dvc() -> None:  # pragma: no cover (as above)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Between DVC and this process there may be shells of any kind, which outlive DVC without a word. A program may have
    # called DVC as a library: then it is the nearest Python. Where DVC went while this process was starting, there is
    # neither.
    above = psutil.Process().parents()
    dvc = next((p for p in above if "dvc" in _words(p)), None)
    dvc = dvc or next((p for p in above if "python" in _program(p)), None)
    if dvc is None:
        sys.stderr.write("the DVC that started this stage is gone, and the stage ends with it\n")
        sys.exit(143)

    end_after(dvc.wait)


def end_after(wait: Callable[[], object]) -> None:  # pragma: no cover (as above, and tests/tools/test_warm.py)
    """End this process once `wait`, called in a thread of its own, has returned."""

    def watch() -> None:
        wait()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)  # for Python to come back from a computation and leave in order
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _words(process: psutil.Process) -> list[str]:  # pragma: no cover (as above)
    """The program and the first words of a process's command line, without their folders."""
    try:
        return [Path(word).name for word in process.cmdline()[:3]]
    except (psutil.AccessDenied, psutil.ZombieProcess):  # another user's
        return [process.name()]


def _program(process: psutil.Process) -> str:  # pragma: no cover (as above)
    try:
        return Path(process.exe()).name.lower()
    except (psutil.AccessDenied, psutil.ZombieProcess):
        return str(process.name()).lower()

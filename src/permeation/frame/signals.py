"""Ending in order: Ctrl-C, SIGTERM, and a DVC that is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
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
    # Between DVC and this process there may be shells, which outlive DVC without a word.
    shells = {"sh", "bash", "dash", "zsh", "fish", "ksh"}
    dvc = next((p for p in psutil.Process().parents() if p.name() not in shells), None)
    # DVC is a Python program; what takes its place, when it went while this process was starting, is the system's.
    if dvc is None or not _program(dvc).startswith(("python", "dvc")):
        sys.exit(143)

    def watch() -> None:
        dvc.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)  # for Python to come back from a computation and leave in order
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _program(process: psutil.Process) -> str:  # pragma: no cover (as above)
    try:
        return Path(process.exe()).name.lower()
    except psutil.AccessDenied:  # another user's
        return str(process.name()).lower()

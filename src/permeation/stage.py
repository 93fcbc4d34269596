"""The frame that every stage runs in: command line, parameters, folders, device, errors."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psutil

from permeation import config as configuration
from permeation.config import DEVICES, Config
from permeation.errors import PermeationError
from permeation.files import SEAL, broken, md5, replacing, seal
from permeation.journal import Journal, fingerprint

if TYPE_CHECKING:
    import torch

GRACE = 5  # seconds to leave in order


@dataclass(frozen=True)
class Stage:
    """What a stage is given: the checked parameters, the folders it reads and writes, the device it computes on.

    Attributes:
        name: the stage's name, and that of its folder under data/.
        config: params.yaml, with what the command line overrides.
        project: the folder that holds params.yaml.
        root: the folder under which data/, metrics/ and plots/ are read and written.
    """

    name: str
    config: Config
    project: Path
    root: Path
    _whole: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def input(self, name: str) -> Path:
        """The folder that the stage `name` wrote; raises PermeationError where it is not there or not as written.

        What is damaged is removed, here and in DVC's cache, so that the next run makes it anew: DVC believes its
        cache's read-only files, and a time stamp, without reading them.
        """
        folder = self.root / "data" / name
        if not (folder / SEAL).is_file():
            missing = "incomplete" if folder.is_dir() else "missing"
            raise PermeationError(f"{folder} is {missing}; the stage that writes it has to run first (dvc repro)")
        if name not in self._whole:
            if damaged := broken(folder):
                _discard([*damaged, folder / SEAL], self.root)  # it may as well be the seal that is damaged
                raise PermeationError(
                    f"{damaged[0]} was damaged or changed since it was written, and has been removed; "
                    "the next dvc repro makes it anew"
                )
            self._whole.add(name)
        return folder

    @contextmanager
    def output(self, name: str | None = None) -> Iterator[Path]:
        """An empty folder that becomes data/<name> (default: the stage's own), sealed, when the block ends well."""
        with replacing(self.root / "data" / (name or self.name)) as folder:
            yield folder
            seal(folder)

    def journal(self, *inputs: Path, settings: object) -> Journal:
        """Where this stage keeps what it has measured so far, valid for these inputs, settings and code only."""
        return self._journal(self.name, [self.project / "stages" / f"{self.name}.py"], inputs, settings)

    def untouched(self, dtype: str) -> Journal:
        """Where all stages keep what the untouched model scored in this number format: the package's own doing."""
        return self._journal("untouched", [], [self.input("model")], (self.config.wqk, dtype))

    def _journal(self, name: str, code: Sequence[Path], inputs: Sequence[Path], settings: object) -> Journal:
        files = [*code, *(folder / SEAL for folder in inputs)]
        return Journal(self.root / "data" / ".journal" / name, fingerprint(files, settings))

    @cached_property
    def device(self) -> torch.device:
        """The device named in the parameters; raises PermeationError where this machine lacks it."""
        from permeation.device import find_device

        return find_device(self.config.device)


def run(main: Callable[[Stage], None]) -> NoReturn:
    """Run a stage's `main` as a program: parse the command line, report errors in one line, exit.

    Exit codes: 0 done, 1 an error that the message explains, 130 or 143 interrupted.
    """
    module = sys.modules[main.__module__]
    name = Path(str(module.__file__)).stem
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=module.__doc__,
        epilog="Parameters come from params.yaml in the current folder. Earlier stages' outputs are read from, and "
        "this stage's are written to, DIR/data.",
    )
    parser.add_argument("--model", help="instead of params.yaml's model")
    parser.add_argument("--device", help=f"instead of params.yaml's device: {' | '.join(DEVICES)}")
    parser.add_argument("--output-dir", metavar="DIR", type=Path, default=Path(), help="default: the current folder")
    arguments = parser.parse_args()

    overrides: dict[str, Any] = {k: v for k in ("model", "device") if (v := getattr(arguments, k)) is not None}
    try:
        stage = Stage(
            name=name,
            config=configuration.load(Path("params.yaml"), **overrides),
            project=Path.cwd(),
            root=arguments.output_dir.resolve(),
        )
        with _leaving_in_order():
            main(stage)
    except PermeationError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:  # a read-only folder: the system's own words name the file
        sys.exit(f"{name}: {error}")
    sys.exit(0)


@contextmanager
def _leaving_in_order() -> Iterator[None]:
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
    if "DVC_STAGE" in os.environ:  # pragma: no cover (tests/test_faults.py: under DVC)
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


def _discard(damaged: list[Path], root: Path) -> None:
    """Remove damaged files, and from the cache of the DVC project at `root`, if there is one, what they came from."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    present = [path for path in damaged if path.exists()]
    sizes = {path.stat().st_size for path in present}
    contents = {md5(path) for path in present}
    for path in present:
        path.unlink()
    try:
        cache = Path(Repo(str(root)).cache.local.path)
    except NotDvcRepoError:
        return
    for kept in cache.glob("??/*"):  # called by the MD5 of what is in it
        if kept.stat().st_size in sizes and ((found := md5(kept)) in contents or found != kept.parent.name + kept.stem):
            kept.unlink()

"""The frame that every stage runs in: command line, parameters, folders, device, errors."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psutil

from permeation import config as configuration
from permeation.config import DEVICES, Config
from permeation.errors import PermeationError
from permeation.files import replacing
from permeation.journal import Journal, fingerprint

if TYPE_CHECKING:
    import torch


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

    def input(self, name: str) -> Path:
        """The folder that the stage `name` wrote; raises PermeationError where it is not there."""
        folder = self.root / "data" / name
        if not folder.is_dir():
            raise PermeationError(f"{folder} is missing; the stage that writes it has to run first (dvc repro)")
        return folder

    def output(self, name: str | None = None) -> AbstractContextManager[Path]:
        """An empty folder that becomes data/<name> (default: the stage's own) when the block ends well."""
        return replacing(self.root / "data" / (name or self.name))

    def journal(self, *inputs: Path, settings: object, name: str | None = None) -> Journal:
        """Where a stage keeps what it has measured so far, valid for these inputs and settings only.

        `name` is of a journal that several stages share (default: the stage's own).
        """
        return Journal(self.root / "data" / ".journal" / (name or self.name), fingerprint(inputs, settings))

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

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _end_with_dvc()
    overrides: dict[str, Any] = {k: v for k in ("model", "device") if (v := getattr(arguments, k)) is not None}
    try:
        stage = Stage(
            name=name,
            config=configuration.load(Path("params.yaml"), **overrides),
            project=Path.cwd(),
            root=arguments.output_dir.resolve(),
        )
        main(stage)
    except PermeationError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:  # a full disk, a read-only folder: the system's own words name the file
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _end_with_dvc() -> None:
    """End this process when the DVC that started it is gone, as after a SIGKILL to DVC alone."""
    if "DVC_STAGE" not in os.environ:
        return
    # Between DVC and this process there may be shells, which outlive DVC without a word.
    shells = {"sh", "bash", "dash", "zsh", "fish", "ksh"}
    dvc = next((p for p in psutil.Process().parents() if p.name() not in shells), None)
    if dvc is None:
        return

    def watch() -> None:
        dvc.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()

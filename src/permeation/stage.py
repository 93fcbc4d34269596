"""The frame that every stage runs in: command line, parameters, folders, device, errors."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from permeation import settings
from permeation.frame.errors import PermeationError
from permeation.frame.journal import Journal, fingerprint
from permeation.frame.tables import read_json, whole_folder, write_results

if TYPE_CHECKING:  # PyTorch takes seconds to import, and not every stage needs it
    import torch

    from permeation.frame.engine import Engine


@dataclass(frozen=True)
class Stage:
    """What a stage is given: checked parameters, the folders it reads and writes, the device.

    Attributes:
        name: the stage's name, and that of its folder under data/.
        config: params.yaml, with what the command line overrides.
        project: the folder that holds params.yaml.
        root: the folder under which data/, metrics/ and plots/ are read and written.
        axis: what a report is of.
    """

    name: str
    config: settings.Config
    project: Path
    root: Path
    axis: str = ""

    def input(self, name: str) -> Path:
        """The folder data/<name>.

        Raises PermeationError where it is missing, and where data/model holds another model than the one asked for.
        """
        folder = self.root / "data" / name
        if not folder.is_dir():
            raise PermeationError(f"{folder} is missing; the stage that writes it has to run first (dvc repro)")
        if name == "model":
            there, asked = (Path(each).name for each in (read_json(folder / "model.json")["name"], self.config.model))
            if there != asked:
                raise PermeationError(f"{folder} holds {there}, and model is {asked}; run the stage fetch_model first")
        return folder

    def output(self, name: str | None = None) -> AbstractContextManager[Path]:
        """An empty folder that becomes data/<name> (default: the stage's own) when the block ends well."""
        return whole_folder(self.root / "data" / (name or self.name))

    def write(self, summary: Mapping[str, Any], tables: Mapping[str, Iterable[dict[str, Any]]]) -> None:
        """Write data/<name>/: summary.json, and plots/<table>.json each."""
        with self.output() as folder:
            write_results(folder, summary, tables)

    def journal(self, *inputs: Path, settings: object) -> Journal:
        """What the stage has measured so far, valid for these input folders, these settings and this code alone."""
        code = [self.project / "stages" / f"{self.name}.py", *Path(__file__).parent.rglob("*.py")]
        path = self.root / "data" / ".journal" / f"{self.name}.jsonl"
        return Journal(path, fingerprint(code, inputs, settings))

    def note(self, seconds: float) -> None:
        """Keep how long the stage took, for the page: in no output, which stay the same from run to run."""
        folder = self.root / "data" / ".journal"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.seconds").write_text(f"{seconds:.1f}\n", encoding="utf-8")

    def place(self, name: str) -> str:
        """A model, a text or a words file as it can be opened from here.

        An experiment in a temporary copy (--temp, --queue) has there what git tracks; any other relative path is that
        of the project from which the experiment came.
        """
        if Path(name).is_absolute() or Path(name).exists():
            return name
        origin = next((up.parents[1] for up in self.project.resolve().parents if up.match(".dvc/tmp")), None)
        return str(origin / name) if origin is not None and (origin / name).exists() else name

    def words(self) -> Path:
        """The words file; raises PermeationError where it is not there."""
        if (path := Path(self.place(name := self.config.words))).is_file():
            return path
        raise PermeationError(f"words is {name}, which is not there; accepted: a words file, or a table of sentences")

    @cached_property
    def device(self) -> torch.device:
        """The device named in the parameters; raises PermeationError where this machine lacks it."""
        from permeation.frame.device import find_device

        return find_device(self.config.device)

    def engine(self) -> AbstractContextManager[Engine]:
        """What measures the stage's tasks, within a `with` block."""
        from permeation.frame.engine import engine_of

        asked = self.config.engine
        return engine_of(asked.kind, asked.workers, asked.address, self.device.type)


def run(module: str) -> NoReturn:
    """Run a stage's program: parse the command line, report errors in one line, exit.

    module: has `main`, and where it takes an argument ARGUMENTS, one of which becomes part of the stage's name.

    Exit codes: 0 done, 1 an error that the message explains, 130 or 143 interrupted.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as of a run in the background
            signal.signal(number, _leave)
    program = import_module(module)
    name = Path(str(program.__file__)).stem
    parser = argparse.ArgumentParser(prog=f"stages/run {name}", description=program.__doc__)
    parser.add_argument("--model", help="instead of params.yaml's model")
    parser.add_argument("--device", help="instead of params.yaml's device: auto | cpu | cuda | mps")
    parser.add_argument("--output-dir", metavar="DIR", type=Path, default=Path(), help="holds data/; default: here")
    if hasattr(program, "ARGUMENTS"):
        parser.add_argument("axis", choices=program.ARGUMENTS)
    overrides = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    root, axis = overrides.pop("output_dir").resolve(), overrides.pop("axis", "")
    name = f"{name}_{axis}" if axis else name
    started = time.monotonic()
    try:
        stage = Stage(name, settings.load(Path("params.yaml"), **overrides), Path.cwd(), root, axis)
        program.main(stage)
        stage.note(time.monotonic() - started)
    except (PermeationError, OSError) as error:  # of a read-only folder the system's own words name the file
        sys.exit(f"{name}: {error}")
    sys.exit(0)


def _leave(number: int, _: object) -> NoReturn:
    """Clean shutdown: half-written folders and workers are put away on the way out."""
    signal.alarm(10)  # the end, in case a library swallows what is raised here
    sys.exit(128 + number)

"""The frame that every stage runs in: command line, parameters, folders, device, errors."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, runtime_checkable

from permeation.frame.asked import Flat, asked_of, differences, listed, read_asked, write_asked
from permeation.frame.device import DEVICES
from permeation.frame.engine import Engine, EngineSettings, engine_of
from permeation.frame.errors import PermeationError
from permeation.frame.journal import Journal, fingerprint
from permeation.frame.pipeline import stages_of
from permeation.frame.sealed import SEAL, broken, discard, replacing, seal
from permeation.frame.signals import leaving_in_order

if TYPE_CHECKING:
    import torch


# DVC has removed the output of a stage that fails, and what was asked for stands in params.yaml.
BACK = "\nTo go back to the committed parameters and their results: make back"


@runtime_checkable
class Parameters(Protocol):
    """What the frame itself asks of params.yaml."""

    @property
    def device(self) -> str:
        """The device to compute on."""

    @property
    def engine(self) -> EngineSettings:
        """What measures changed models."""

    @property
    def words(self) -> str:
        """The words file."""


C = TypeVar("C", bound=Parameters)


@dataclass(frozen=True)
class Stage(Generic[C]):
    """What a stage is given: the checked parameters, the folders it reads and writes, the device it computes on.

    Attributes:
        name: the stage's name, and that of its folder under data/.
        config: params.yaml, with what the command line overrides.
        project: the folder that holds params.yaml.
        root: the folder under which data/, metrics/ and plots/ are read and written.
        inherited: the parameters that the outputs which were read so far depend on (permeation.frame.asked).
    """

    name: str
    config: C
    project: Path
    root: Path
    inherited: Flat = field(default_factory=dict, init=False, repr=False, compare=False)
    _whole: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def input(self, name: str) -> Path:
        """The folder that the stage `name` wrote.

        Raises PermeationError where it is not there, not as it was written, or made with other parameters than those
        that are asked for. What is damaged is removed, here and in DVC's cache, so that the next run makes it anew. DVC
        itself would not notice: it does not read a file of its cache that is read-only, nor one whose time stamp is the
        old one.
        """
        folder = self.root / "data" / name
        if not (folder / SEAL).is_file():
            missing = "incomplete" if folder.is_dir() else "missing"
            raise PermeationError(f"{folder} is {missing}; the stage that writes it has to run first (dvc repro)")
        if name not in self._whole:
            if damaged := broken(folder):
                discard({*damaged, folder / SEAL}, self.root)  # it may as well be the seal that is damaged
                raise PermeationError(
                    f"{damaged[0]} was damaged or changed since it was written, and has been removed; "
                    "the next dvc repro makes it anew"
                )
            recorded = read_asked(folder)
            if other := differences(recorded, self.asked):
                raise PermeationError(
                    f"{folder} is not what is asked for: {'; '.join(other)}. The stage that writes it has to run again "
                    "with what is asked for (dvc repro), or this one has to ask for what is there"
                )
            self.inherited.update(recorded)
            self._whole.add(name)
        return folder

    @contextmanager
    def output(self, name: str | None = None) -> Iterator[Path]:
        """An empty folder that becomes data/<name> (default: the stage's own), sealed, when the block ends well."""
        with replacing(self.root / "data" / (name or self.name)) as folder:
            yield folder
            write_asked(folder, self.parameters)
            seal(folder)

    def journal(self, *inputs: Path, settings: object) -> Journal:
        """Where a stage keeps what it has measured so far, valid for these inputs, settings and code only."""
        files = [*code_of(self.project, self.name), *(folder / SEAL for folder in inputs)]
        return Journal(self.root / "data" / ".journal" / self.name, fingerprint(files, settings))

    @cached_property
    def asked(self) -> Flat:
        """Every parameter that is asked for (permeation.frame.asked)."""
        return asked_of(self.project, self.config)

    @property
    def parameters(self) -> Flat:
        """Those that this stage's output depends on: its own and those of the outputs that it has read so far."""
        return dict(sorted((self.inherited | listed(self.project, self.name, self.asked)).items()))

    def place(self, name: str) -> str:
        """A model or a text as it can be opened from here.

        An experiment in a temporary copy (--temp, --queue) has there what git tracks; a relative path to anything else
        is that of the project from which the experiment came.
        """
        if Path(name).is_absolute() or Path(name).exists():
            return name
        origin = next((up.parents[1] for up in self.project.resolve().parents if up.match(".dvc/tmp")), None)
        return str(origin / name) if origin is not None and (origin / name).exists() else name

    @cached_property
    def device(self) -> torch.device:
        """The device named in the parameters; raises PermeationError where this machine lacks it."""
        from permeation.frame.device import find_device

        return find_device(self.config.device)

    def engine(self) -> AbstractContextManager[Engine]:
        """What measures the stage's tasks, within a `with` block."""
        return engine_of(self.config.engine, self.device.type)


def code_of(project: Path, stage: str) -> list[Path]:
    """The files of code that the pipeline names as a stage's dependencies: its script and the rooms of the package."""
    listed = [project / dep for dep in stages_of(project)[stage]["deps"] if dep.startswith(("src/", "stages/"))]
    return sorted(path for each in listed for path in ([each] if each.is_file() else each.rglob("*.py")))


def run(main: Callable[[Stage[C]], None], load: Callable[..., C]) -> NoReturn:
    """Run a stage's `main` as a program: parse the command line, report errors in one line, exit.

    `load` reads a params.yaml, with what the command line gives in place of its top-level values.
    Exit codes: 0 done, 1 an error that the message explains, 130 or 143 interrupted.
    """
    # What was imported is never garbage: from here on the collector leaves it alone.
    gc.freeze()
    gc.enable()
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
            config=load(Path("params.yaml"), **overrides),
            project=Path.cwd(),
            root=arguments.output_dir.resolve(),
        )
        with leaving_in_order():
            main(stage)
    except (PermeationError, OSError) as error:  # of a read-only folder the system's own words name the file
        sys.exit(f"{name}: {error}{BACK if 'DVC_STAGE' in os.environ else ''}")
    finally:
        gc.freeze()  # Python would look through everything once more before it ends
    sys.exit(0)

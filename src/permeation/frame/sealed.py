"""Results are written whole or not at all: nothing half-written is ever taken for one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from permeation.frame.errors import PermeationError

# The file in which a stage's output holds its own checksums.
SEAL = "SHA256SUMS"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends well, and vanishes when it does not.

    Two processes may do this at once: each writes into a folder of its own, and the one that ends last is kept. Raises
    PermeationError that names `target` where it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as in_use:
        with _locked(target.parent):
            _sweep(target)
            draft = _beside(target)
            in_use.enter_context(_locked(draft))
        try:
            draft.chmod(0o755)
            yield draft
            _move(draft, target)
        except (OSError, SafetensorError) as error:
            # A write that fails names no file, unlike an open that fails.
            if getattr(error, "filename", None):
                raise
            raise _unwritable(target, error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # after the move there is nothing to remove


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock on a folder. The system releases it when the process ends, however it ends.

    Raises BlockingIOError where another process has it, unless told to wait.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _beside(target: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))


def _sweep(target: Path) -> None:
    """Remove what killed runs left behind: it was never moved into place, so it is no result."""
    for leftover in target.parent.glob(f".{target.name}.*"):
        with suppress(BlockingIOError, FileNotFoundError), _locked(leftover, wait=False):
            shutil.rmtree(leftover)


def _move(draft: Path, target: Path) -> None:
    with _locked(target.parent):
        earlier = _beside(target)
        if target.exists():
            target.rename(earlier)
        draft.rename(target)
    shutil.rmtree(earlier, ignore_errors=True)


def _unwritable(target: Path, error: Exception) -> PermeationError:
    free = shutil.disk_usage(target.parent).free / 2**20
    return PermeationError(f"{target}: cannot be written: {error} ({free:.1f} MiB are free there)")


def write_whole(path: Path, content: str) -> None:
    """Write a text file that is there whole or not at all; raises PermeationError where it cannot be written."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        draft.unlink(missing_ok=True)


def sha256(paths: Iterable[Path]) -> str:
    """The SHA-256 of the files' bytes, one after the other."""
    return _digest(hashlib.sha256(), paths)


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, by which DVC names it in its cache."""
    return _digest(hashlib.md5(usedforsecurity=False), [path])


def _digest(digest: hashlib._Hash, paths: Iterable[Path]) -> str:
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def seal(folder: Path) -> None:
    """Leave the SHA-256 of every file in `folder` beside them, as `sha256sum --check SHA256SUMS` reads it."""
    lines = [f"{sha256([path])}  {path.relative_to(folder)}\n" for path in _files(folder)]
    (folder / SEAL).write_text("".join(lines), encoding="utf-8")


def broken(folder: Path) -> list[Path]:
    """The files in a sealed folder that are not as they were: changed, missing, added; or an unreadable seal."""
    try:
        lines = (folder / SEAL).read_text(encoding="utf-8").splitlines()
        sealed = {folder / name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        return [folder / SEAL]
    found = {path: sha256([path]) for path in _files(folder)}
    return sorted(path for path in sealed.keys() | found.keys() if sealed.get(path) != found.get(path))


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / SEAL]


def discard(damaged: set[Path], root: Path) -> None:
    """Remove damaged files, and their copies in the cache of the DVC project at `root`, if there is one."""
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
    for kept in cache.glob("??/*"):  # a cached file's name is the MD5 of its content
        if kept.stat().st_size in sizes and ((found := md5(kept)) in contents or found != kept.parent.name + kept.stem):
            kept.unlink()

"""Writing results so that nothing half-written is ever taken for one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from permeation.errors import PermeationError

# The file in which a stage's output holds its own checksums.
SEAL = "SHA256SUMS"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends well, and vanishes when it does not.

    Of two at once each has a folder of its own, and what the last to end wrote stays. Raises PermeationError that
    names `target` where the disk takes no more.
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
            shutil.rmtree(draft, ignore_errors=True)  # nothing is there any more when it was moved


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock on a folder, which the system lets go of when the process ends, however that happens.

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
    """Write a text file that is there whole or not at all; raises PermeationError where the disk takes no more."""
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


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, refusing NaN and infinity: a metric that is no number is an error, not a result."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write long-format rows as a JSON list, one row a line, so that a diff of two versions reads well.

    All rows have the same keys (`dvc plots` asks for that).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, allow_nan=False, ensure_ascii=False) for row in rows)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises PermeationError that names it where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PermeationError(f"{path}: cannot be read as JSON: {error}") from error


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML, with an error for what reads in one line and is no setting.

    A key that stands twice: the first of the two would vanish silently. An alias: a few lines of them stand for more
    values than any memory holds. A number of more than 64 bits and half a character: neither can be written back.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        value.encode()
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        if value.bit_length() > 64:
            raise yaml.constructor.ConstructorError(None, None, "a number of more than 64 bits", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            counts = Counter(self.construct_object(key, deep=True) for key, _ in node.value)
            twice = counts.most_common(1)[0][0]
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return mapping


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML file that holds a non-empty mapping; raises PermeationError that names the file where it does not."""
    try:
        mapping = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except Exception as error:  # what PyYAML raises for a wrong date or an empty !!int is not of its own kind
        raise PermeationError(f"{path}: cannot be read as YAML: {error}".replace("\n", " ")) from error
    if not isinstance(mapping, dict) or not mapping:
        raise PermeationError(f"{path}: found {type(mapping).__name__}; accepted: a mapping")
    return mapping


def sha256(paths: Iterable[Path]) -> str:
    """The SHA-256 of the files' bytes, one after the other."""
    return _digest(hashlib.sha256(), paths)


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, which is what DVC calls it by."""
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

"""JSON, rows and YAML, read and written strictly; folders that appear whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from permeation.frame.errors import PermeationError


def write_json(path: Path, value: Any) -> None:
    """Write JSON; NaN and infinity are errors: a metric that is no number is no result."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write long-format rows as a JSON list, one row a line; all rows have the same keys, as `dvc plots` needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, allow_nan=False, ensure_ascii=False) for row in rows)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def write_results(folder: Path, summary: Mapping[str, Any], tables: Mapping[str, Iterable[dict[str, Any]]]) -> None:
    """Write what a stage found: summary.json, and plots/<table>.json each."""
    write_json(folder / "summary.json", summary)
    for name, rows in tables.items():
        write_rows(folder / "plots" / f"{name}.json", rows)


def read_json(path: Path) -> Any:
    """Read a JSON file; raises PermeationError that names it where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PermeationError(f"{path}: cannot be read as JSON: {error}") from error


def parse_yaml(content: str | bytes, name: str) -> dict[Any, Any]:
    """The mapping in YAML 1.2 text without repeated keys; raises PermeationError that names the file if it is none."""
    try:
        mapping = YAML(typ="safe", pure=True).load(content)
    except (YAMLError, ValueError) as error:
        raise PermeationError(f"{name}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(mapping, dict) or not mapping:
        raise PermeationError(f"{name}: found {type(mapping).__name__}; accepted: a mapping")
    return mapping


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML file that holds a mapping; raises PermeationError that names it where it does not."""
    try:
        return parse_yaml(path.read_bytes(), str(path))
    except OSError as error:
        raise PermeationError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `target` when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as draft:
        folder = Path(draft) / target.name
        folder.mkdir()
        yield folder
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)


def sha256(paths: Iterable[Path]) -> str:
    """The SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()

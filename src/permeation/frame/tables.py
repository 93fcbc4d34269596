"""JSON, rows and YAML, read and written strictly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from permeation.frame.errors import PermeationError


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, refusing NaN and infinity: a metric that is no number is an error, not a result."""
    path.write_text(as_json(value), encoding="utf-8")


def as_json(value: Any) -> str:
    """`value` as `write_json` writes it."""
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


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
    """Plain YAML that refuses what no settings file needs.

    A key that stands twice: the first of the two would vanish silently. An alias: a few lines of them can stand for
    more values than any memory holds. A number of more than 64 bits, and half of a character: neither can be written
    back.
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
    except OSError as error:
        raise PermeationError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # for a wrong date or an empty !!int PyYAML raises no error of its own kind
        raise PermeationError(f"{path}: cannot be read as YAML: {error}".replace("\n", " ")) from error
    if not isinstance(mapping, dict) or not mapping:
        raise PermeationError(f"{path}: found {type(mapping).__name__}; accepted: a mapping")
    return mapping

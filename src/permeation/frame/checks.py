"""Settings as frozen dataclasses: each value is checked before its section is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, ClassVar, NoReturn, TypeVar

from permeation.frame.errors import PermeationError

Check = Callable[[str, Any], Any]


S = TypeVar("S", bound="Settings")


def reject(key: str, value: object, accepts: str) -> NoReturn:
    """Raise PermeationError that names the key, what was found, and what is accepted."""
    raise PermeationError(f"params.yaml: {key} is {value!r}; accepted: {accepts}")


def text(key: str, value: Any) -> str:
    """A non-empty printable string (no path has a NUL in it) without surrounding blanks."""
    if not isinstance(value, str) or not value.isprintable() or not value or value != value.strip():
        reject(key, value, "a non-empty name or path")
    return value


def boolean(key: str, value: Any) -> bool:
    """true or false; 0, 1 and texts are neither."""
    if not isinstance(value, bool):
        reject(key, value, "true or false")
    return value


def integer(minimum: int | None = None, maximum: int | None = None) -> Check:
    """A whole number from `minimum` to `maximum`."""
    accepts = "a whole number" + (f" of at least {minimum}" if minimum is not None else "")
    accepts += f" and at most {maximum}" if maximum is not None else ""

    def check(key: str, value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or (minimum is not None and value < minimum)
            or (maximum is not None and value > maximum)
        ):
            reject(key, value, accepts)
        return value

    return check


def number(above: float, below: float = float("inf"), or_equal: bool = False) -> Check:
    """A finite number strictly between `above` and `below`; with `or_equal`, also `above` itself."""
    accepts = f"a number {'of at least' if or_equal else 'above'} {above:g}"
    accepts += f" and below {below:g}" if below < float("inf") else ""

    def check(key: str, value: Any) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (above < value < below or (or_equal and value == above))
        ):
            reject(key, value, accepts)
        return float(value)

    return check


def choice(*options: str) -> Check:
    """One of a few names."""

    def check(key: str, value: Any) -> str:
        if value not in options or not isinstance(value, str):
            reject(key, value, " | ".join(options))
        return value

    return check


def optional(check: Check) -> Check:
    """null, or what `check` accepts."""
    return lambda key, value: None if value is None else check(key, value)


def count_or(word: str) -> Check:
    """A count of at least 1, or one word."""

    def check(key: str, value: Any) -> Any:
        if value != word and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            reject(key, value, f"a whole number of at least 1, or {word}")
        return value

    return check


count_or_all = count_or("all")


def rising(check: Check) -> Check:
    """A non-empty list, strictly rising; where `check` accepts the word `all`, it may come last."""
    accepts = "a non-empty list in rising order without repeats" + (
        ", of whole numbers of at least 1 (all may come last)" if check is count_or_all else ""
    )

    def check_list(key: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            reject(key, value, accepts)
        items = tuple(check(f"{key}[{i}]", item) for i, item in enumerate(value))
        ranks = [float("inf") if item == "all" else float(item) for item in items]
        if any(later <= earlier for earlier, later in pairwise(ranks)):
            reject(key, value, accepts)
        return items

    return check_list


def distinct(check: Check) -> Check:
    """A non-empty list without repeats."""

    def check_list(key: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            reject(key, value, "a non-empty list")
        items = tuple(check(f"{key}[{i}]", item) for i, item in enumerate(value))
        if len(set(items)) < len(items):
            reject(key, value, "a list without repeats")
        return items

    return check_list


def checked(check: Check, about: str = "") -> Any:
    """A dataclass field whose value must pass `check`.

    `about` says in a line what the setting does and when one would change it; tools/reference.py makes
    docs/parameters.md and the comments of params.yaml of it.
    """
    return field(metadata={"check": check, "about": about})


@dataclass(frozen=True)
class Settings:
    """A group of keys; `prefix` stands in front of them in messages."""

    prefix: ClassVar[str] = ""


def section(cls: type[Settings]) -> Check:
    """A mapping that holds exactly the keys of one section."""
    return lambda _, value: build(cls, value)


def build(cls: type[S], mapping: Any) -> S:
    """The settings that a mapping holds.

    Raises PermeationError for an unknown or a missing key, and for a value that its check rejects.
    """
    where = cls.prefix.rstrip(".") or "the file"
    checks: dict[str, Check] = {each.name: each.metadata["check"] for each in fields(cls)}
    if not isinstance(mapping, Mapping):
        reject(where, mapping, f"a mapping with the keys {', '.join(checks)}")
    for name in mapping:
        if name not in checks:
            raise PermeationError(f"params.yaml: unknown key {cls.prefix}{name}; {where} accepts: {', '.join(checks)}")
    for name in checks:
        if name not in mapping:
            raise PermeationError(f"params.yaml: {cls.prefix}{name} is missing")
    return cls(**{name: check(cls.prefix + name, mapping[name]) for name, check in checks.items()})

"""A part of what a run found, and how its numbers are written; as text for a terminal, and as Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Any]
Table = Sequence[Sequence[str]]  # the first row is the header, the first column the rows' names
WIDTH = 80  # columns of a terminal
LEVEL = 0.05  # of p-values
ENDS = ("", "_low", "_high")  # of the keys of a figure and of its interval


@dataclass(frozen=True)
class Section:
    """One part of the findings; the terminal, the page and Markdown are all made from it.

    Attributes:
        title: a question.
        findings: sentences; the first answers the question and begins with Yes, No or Open.
        figures: the tables under plots/ whose figures belong here.
    """

    title: str
    findings: Sequence[str]
    table: Table = ()
    figures: Sequence[str] = ()

    def text(self) -> str:
        """The section at most 80 columns wide."""
        lines = [textwrap.fill(said, WIDTH, initial_indent="  ", subsequent_indent="  ") for said in self.findings]
        return "\n".join([self.title.upper(), *lines, *(["", *columns(self.table)] if self.table else [])])

    def markdown(self) -> str:
        """The section under a heading of the second level."""
        rows = [f"|{'|'.join(row)}|" for row in self.table]
        rows[1:1] = ["|---" * len(self.table[0]) + "|"] if rows else []
        return "\n\n".join([f"## {self.title}", *self.findings, "\n".join(rows)]).strip()


def fill(template: str, metrics: Metrics) -> str | None:
    """{file.key} as a number, {file.key:%} as a share, {file.key:i} with its interval; None where one is missing."""

    def figure(match: re.Match[str]) -> str:
        name, form = match.groups()
        value, low, high = (look_up(metrics, f"{name}{end}") for end in ENDS)
        if value in (None, []) or (isinstance(value, Mapping) and value.get("value", value) is None):
            raise LookupError(name)
        if isinstance(value, str | list):
            return value.replace("_", " ") if isinstance(value, str) else ", ".join(value)
        if isinstance(value, Mapping):
            return measured(value)
        return share(value) if form == "%" else interval(value, low if form else None, high)

    try:
        return re.sub(r"{([^{}:]+):?([%i]?)}", figure, template)
    except LookupError:
        return None


def look_up(part: Any, path: str | None) -> Any:
    """The value at a dotted path; None where there is none."""
    for key in (path or "").split("."):
        part = part.get(key) if isinstance(part, Mapping) else None
    return part


def number(value: float | int | None) -> str:
    """A number with three significant digits, four from 1 to 1.1 (a ratio); a dash where there is none."""
    if value is None or isinstance(value, int):
        return "–" if value is None else f"{value:,}"
    return f"{value:z.{4 if 1 <= value < 1.1 else 3}g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(value: float | int | None, low: float | int | None, high: float | int | None) -> str:
    """A number with its 95 % interval, where it has one that is more than a point."""
    return number(value) + ("" if None in (low, high) or low == high else f" [{number(low)}, {number(high)}]")


def measured(figures: Metrics) -> str:
    """A figure with its interval, from a mapping with value (share, kept), low and high."""
    value = next(figures[name] for name in ("value", "share", "kept") if name in figures)
    return interval(value, figures.get("low"), figures.get("high"))


def share(value: float | int) -> str:
    """A share in per cent."""
    return f"{number(100.0 * value)} %"


def columns(table: Table) -> list[str]:
    """A table as lines: names to the left, wrapped between words where it would be too wide, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    longest = max(len(word) for name, *_ in table for word in name.split())
    widths[0] = max(longest, min(widths[0], WIDTH - 2 - sum(width + 2 for width in widths[1:])))
    lines = []
    for name, *cells in table:
        first, *more = textwrap.wrap(name, widths[0]) or [""]
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines += ["  " + "  ".join([first.ljust(widths[0]), *numbers]).rstrip(), *(f"    {part}" for part in more)]
    return lines

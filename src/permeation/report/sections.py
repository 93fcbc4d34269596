"""A part of what a run found, and how its numbers are written; as text for a terminal, and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Any]
WIDTH = 80  # columns of a terminal


@dataclass(frozen=True)
class Section:
    """One part of the findings; the terminal, the page and Markdown are all made from it.

    Attributes:
        title: a question.
        findings: sentences; the first answers the question and begins with Yes, No or Open.
        header, rows: a table as text, its first column the row's name.
        figures: the tables under plots/ whose figures belong here.
    """

    title: str
    findings: Sequence[str]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figures: Sequence[str] = ()

    def text(self) -> str:
        """The section at most 80 columns wide."""
        lines = [textwrap.fill(said, WIDTH, initial_indent="  ", subsequent_indent="  ") for said in self.findings]
        table = ["", *columns(self.header, self.rows)] if self.rows else []
        return "\n".join([self.title.upper(), *lines, *table])

    def markdown(self) -> str:
        """The section under a heading of the second level."""
        lines = [f"## {self.title}", *(part for said in self.findings for part in ("", said))]
        if self.rows:
            lines += ["", *(f"|{'|'.join(row)}|" for row in (self.header, ["---"] * len(self.header), *self.rows))]
        return "\n".join(lines)


def number(value: float | int | None) -> str:
    """A number with three significant digits; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:z.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(value: float | int | None, low: float | int | None, high: float | int | None) -> str:
    """A number with its 95 % interval, where it has one."""
    ends = "" if value is None or low is None or high is None else f" [{number(low)}, {number(high)}]"
    return number(value) + ends


def measured(figures: Metrics | None, name: str = "value") -> str:
    """A figure with its interval from a mapping with `low` and `high`."""
    return "–" if figures is None else interval(figures[name], figures["low"], figures["high"])


def share(value: float | int) -> str:
    """A share in per cent."""
    return f"{number(100 * value)} %"


def counted(count: int, name: str) -> str:
    """A number and what it counts, as `1 word` or `2 words`."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines: names to the left, wrapped where the table would be too wide, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    widths[0] = max(12, min(widths[0], WIDTH - 2 - sum(width + 2 for width in widths[1:])))
    lines = []
    for name, *cells in (header, *rows):
        first, *more = textwrap.wrap(name, widths[0]) or [""]
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines += ["  " + "  ".join([first.ljust(widths[0]), *numbers]).rstrip(), *(f"    {part}" for part in more)]
    return lines

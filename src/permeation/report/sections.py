"""A part of what a run found: sentences and a table, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """One part of the findings.

    Attributes:
        title: its heading.
        findings: sentences, the most telling one first.
        header, rows: a table as text, its first column the row's name.
        figures: the tables under plots/ whose figures belong here.
    """

    title: str
    findings: Sequence[str]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figures: Sequence[str] = ()


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.0f} %"


def counted(number: int, name: str) -> str:
    """A number and what it counts, as `1 word` or `2 words`."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def plain(ratio: float) -> str:
    """A ratio, with as many digits as one reads."""
    return f"{ratio:.4f}" if ratio < 10 else f"{ratio:,.0f}"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  "
        + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in (header, *rows)
    ]

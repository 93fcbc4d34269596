"""A part of what a run found, and how its numbers are written; as text for a terminal, and as Markdown."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from permeation.report.axes import look_up

Metrics = Mapping[str, Any]
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header and rows
WIDTH = 80  # columns of a terminal
LEVEL = 0.05  # of p-values


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
        table = [self.header, ["---"] * len(self.header), *self.rows] if self.rows else []
        return "\n\n".join(
            [f"## {self.title}", *self.findings, "\n".join(f"|{'|'.join(row)}|" for row in table)]
        ).strip()


@dataclass(frozen=True)
class Question:
    """A section before it is filled with a run's metrics.

    Attributes:
        needs: the metrics files without which it is left out.
        answer: True is Yes, False is No, None is Open.
        sentences: templates for `fill`. The first follows the answer; others are left out where a figure is missing.
        open: follows `Open` where the first sentence misses a figure.
        facts: further figures for the sentences, as {here.key}.
        table: its header and rows.
    """

    title: str
    needs: Sequence[str]
    answer: Callable[[Metrics], bool | None]
    sentences: Sequence[str]
    open: str = "it was not measured."
    facts: Callable[[Metrics], Metrics] = lambda _: {}
    table: Callable[[Metrics], Table] = lambda _: ((), ())
    figures: Sequence[str] = ()

    def section(self, metrics: Metrics) -> Section:
        """The section of these metrics."""
        first, *rest = (fill(sentence, {**metrics, "here": self.facts(metrics)}) for sentence in self.sentences)
        word = "Open" if first is None else {True: "Yes", False: "No", None: "Open"}[self.answer(metrics)]
        said = [f"{word}: {first or self.open}", *(each for each in rest if each)]
        return Section(self.title, said, *self.table(metrics), self.figures)


class _Filler(string.Formatter):
    """Formats {file.key} as a number, {file.key:%} as a share, {file.key:i} with its interval."""

    def get_field(self, name: str, _: Any, kwargs: Any) -> Any:
        value = look_up(kwargs, name)
        if value in (None, []) or (isinstance(value, Mapping) and value.get("value", value) is None):
            raise LookupError(name)
        return (value, *(look_up(kwargs, f"{name}_{end}") for end in ("low", "high"))), name

    def format_field(self, value: Any, spec: str) -> str:
        figure, low, high = value
        if isinstance(figure, Mapping):  # a figure with its interval
            return measured(figure)
        if isinstance(figure, str | list):
            return figure.replace("_", " ") if isinstance(figure, str) else ", ".join(figure)
        return {"": number, "%": share, "i": lambda x: interval(x, low, high)}[spec](figure)


def fill(template: str, metrics: Metrics) -> str | None:
    """A sentence with figures of the metrics in it; None where one of them is missing."""
    try:
        return _Filler().vformat(template, (), metrics)
    except LookupError:
        return None


def number(value: float | int | None) -> str:
    """A number with three significant digits, four from 1 to 1.1 (a ratio); a dash where there is none."""
    if value is None or isinstance(value, int):
        return "–" if value is None else f"{value:,}"
    return f"{value:z.{4 if 1 <= value < 1.1 else 3}g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(value: float | int | None, low: float | int | None, high: float | int | None) -> str:
    """A number with its 95 % interval, where it has one."""
    return number(value) + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]")


def measured(figures: Metrics) -> str:
    """A figure with its interval, from a mapping with value (share, kept), low and high."""
    value = next(figures[name] for name in ("value", "share", "kept") if name in figures)
    return interval(value, figures["low"], figures["high"])


def share(value: float | int) -> str:
    """A share in per cent."""
    return f"{number(100.0 * value)} %"


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

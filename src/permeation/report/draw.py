"""How figures are drawn: lines in panels, points with intervals, maps of heads, and the forest of claims."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from permeation.report.labels import label

mpl.use("agg")
plt.style.use(Path(__file__).with_name("style.mplstyle"))

Rows = Sequence[Mapping[str, Any]]
# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, GREY = COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
MARKERS = "os^DvP*"
LEVEL = 0.05


def save(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(target, metadata={"Software": None})
    plt.close(figure)


def values(rows: Rows, column: str) -> list[Any]:
    """One column."""
    return [row[column] for row in rows]


def groups(rows: Rows, column: str) -> dict[Any, Rows]:
    """The rows by the values of a column, in order of appearance; all of them under "" where no column is named."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[column] if column else "", []).append(row)
    return dict(found)


@dataclass(frozen=True)
class Spec:
    """A figure without its rows.

    Attributes:
        label: of the y axis, or of the colours.
        panel, series: the columns whose values are the panels, and the lines or kinds of points in a panel.
        prepare: brings a table's rows to the columns that the figure needs.
    """

    caption: str
    label: str = ""
    panel: str = ""
    series: str = ""
    prepare: Callable[[Rows], Rows] = field(default=lambda rows: rows, kw_only=True)

    def draw(self, rows: Rows, titles: Mapping[str, str], /) -> Figure:
        """The figure of prepared rows; `titles` replace the names of panels."""
        raise NotImplementedError

    def panels(self, rows: Rows, titles: Mapping[str, str], width: float, height: float, across: int) -> Any:
        """A figure, and its axes with the rows of each."""
        drawn = groups(rows, self.panel)
        across = min(across, len(drawn))
        down = -(-len(drawn) // across)
        size, shared = (max(width * across, 4.2), height * down + 0.7), len(drawn) > 2
        figure, grid = plt.subplots(down, across, squeeze=False, figsize=size, sharex=True, sharey=shared)
        for axis, name in zip(grid.flat, drawn, strict=False):
            axis.set_title(textwrap.fill(titles.get(name) or label(name), 26))
        for axis in grid.flat[len(drawn) :]:
            axis.set_visible(False)
        figure.supylabel(self.label)
        return figure, list(zip(grid.flat[: len(drawn)], drawn.values(), strict=True))


def add_legend(figure: Figure) -> None:
    """One legend above all panels, with each name once."""
    marks = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in figure.axes]
    known = {name: mark for pairs in marks for mark, name in pairs}
    if known:
        across = int(figure.get_figwidth() // 2)
        figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=across)


@dataclass(frozen=True)
class Lines(Spec):
    """Lines over depth (or another x), with bands where rows have low and high.

    Attributes:
        y: the column that is drawn.
        detail: a column that splits a series into thin lines, and a thick one where it is `mean`.
        rule: where a thin horizontal line stands.
    """

    y: str = "value"
    detail: str = ""
    x: str = "depth"
    x_label: str = "depth l / L"
    rule: float | None = None
    across: int = 3
    colours: Sequence[str] = COLOURS
    styles: Sequence[Any] = STYLES

    def draw(self, rows: Rows, titles: Mapping[str, str]) -> Figure:
        many = len(groups(rows, self.panel))
        size = (2.4 if many > 2 else 3.4, 2.0 if many > 3 else 2.8)
        figure, inside = self.panels(rows, titles, *size, self.across)
        for axis, drawn in inside:
            for i, (name, lines) in enumerate(groups(drawn, self.series).items()):
                look = {
                    "color": self.colours[i % len(self.colours)],
                    "linestyle": self.styles[i % len(self.styles)],
                }
                for each, line in groups(lines, self.detail).items():
                    x = values(line, self.x)
                    y = [np.nan if row[self.y] is None else row[self.y] for row in line]
                    if self.detail and each != "mean":
                        axis.plot(x, y, **look, linewidth=0.7, alpha=0.35)
                        continue
                    axis.plot(x, y, **look, linewidth=1.8, label=label(name) or "mean over words")
                    if line[0].get("low") is not None:
                        ends = values(line, "low"), values(line, "high")
                        axis.fill_between(x, *ends, color=look["color"], alpha=0.2, linewidth=0)
            if self.rule is not None:
                axis.axhline(self.rule, color=GREY, linewidth=0.6)
        figure.supxlabel(self.x_label)
        add_legend(figure)
        return figure


@dataclass(frozen=True)
class Points(Spec):
    """Points with 95 % intervals; rows that are `pale` are drawn in grey, without a name.

    Attributes:
        x, y: the columns that are drawn. x_ends, y_ends: those of their intervals.
        joined: a line through each series, on a logarithmic x.
        rule: where a dashed horizontal line stands.
    """

    x: str = ""
    x_label: str = ""
    y: str = "ratio"
    x_ends: tuple[str, str] | None = None
    y_ends: tuple[str, str] = ("low", "high")
    joined: bool = False
    rule: float = 1.0
    log: bool = True
    percent: bool = False

    def draw(self, rows: Rows, titles: Mapping[str, str]) -> Figure:
        figure, inside = self.panels(rows, titles, 2.6, 3.2, 4)
        names = [*groups([row for row in rows if not row.get("pale")], self.series)]
        for axis, drawn in inside:
            pale = [row for row in drawn if row.get("pale")]
            axis.plot(values(pale, self.x), values(pale, self.y), "o", color=GREY, alpha=0.4)
            for name, points in groups([row for row in drawn if not row.get("pale")], self.series).items():
                i = names.index(name)
                # A share of the variance may be fewer components than the last count.
                points = sorted(points, key=lambda row: row[self.x]) if self.joined else points
                look = {"fmt": MARKERS[i % 7] + "-" * self.joined, "color": mpl.color_sequences["tab10"][i % 10]}
                bars = _bars(points, self.y, self.y_ends), _bars(points, self.x, self.x_ends)
                axis.errorbar(values(points, self.x), values(points, self.y), *bars, label=label(name) or None, **look)
            axis.axhline(self.rule, color=GREY, linewidth=0.8, linestyle="--")
            axis.margins(0.1)
            if self.joined:
                axis.set_xscale("log")
            if self.log:
                axis.set_yscale("log")
            if self.percent:
                axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        figure.supxlabel(self.x_label)
        add_legend(figure)
        return figure


def _bars(rows: Rows, column: str, ends: tuple[str, str] | None) -> Any:
    """How far each interval reaches below and above its value."""
    if ends is None:
        return None
    low, high = ends
    return [[max(0.0, row[column] - row[low]) for row in rows], [max(0.0, row[high] - row[column]) for row in rows]]


@dataclass(frozen=True)
class Maps(Spec):
    """A cell for each head with one colour scale; layer 0 is at the bottom. Dots: heads whose `p` is below 0.05."""

    value: str = ""

    def draw(self, rows: Rows, titles: Mapping[str, str]) -> Figure:
        layers, heads = (1 + max(values(rows, column)) for column in ("layer", "head"))
        figure, inside = self.panels(rows, titles, 2.0, max(2.2, 0.1 * layers), 9)
        most = max(map(abs, values(rows, self.value))) or 1.0
        for axis, drawn in inside:
            table = np.zeros((layers, heads))
            for row in drawn:
                table[row["layer"], row["head"]] = row[self.value]
            image = axis.imshow(table, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto", origin="lower")
            marked = [row for row in drawn if row.get("p", 1) < LEVEL]
            axis.plot(values(marked, "head"), values(marked, "layer"), "o", color="black", markersize=2.5)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(visible=False)
        figure.supxlabel("head")
        figure.supylabel("layer")
        figure.colorbar(image, ax=[axis for axis, _ in inside], label=self.label)
        return figure


@dataclass(frozen=True)
class Forest(Spec):
    """A line for each claim on a scale of its own: what it accepts, what was found, the null model.

    Rows have claim, text, accepted (two ends), found (values with the ends of their intervals) and null.
    """

    def draw(self, rows: Rows, _: Mapping[str, str], /) -> Figure:
        figure, axis = plt.subplots(figsize=(7, 0.36 * len(rows) + 0.9))
        for y, row in enumerate(rows):
            null, ends = row["null"][:1] if row["null"] else (), row["accepted"]
            scale = _scale([*(x for each in row["found"] for x in each), *null, *ends])
            look: Any = {"color": GREEN, "alpha": 0.45, "linewidth": 7, "solid_capstyle": "butt"}
            axis.plot([scale(x) for x in ends], [y, y], **look, label="accepted")
            for value, low, high in ([scale(x) for x in each] for each in row["found"]):
                bar = [[value - low], [high - value]]
                axis.errorbar(value, y, xerr=bar, fmt="o", color=BLUE, label="found, 95 %")
            axis.plot([scale(x) for x in null], [y] * len(null), "D", color=ORANGE, mfc="white", label="null model")
            axis.text(1.06, y, row["text"], va="center", fontsize=8)
        axis.set_yticks(range(len(rows)), [textwrap.fill(row["claim"], 52) for row in rows])
        axis.set(xlim=(-0.04, 1.04), xticks=[], ylim=(len(rows) - 0.5, -0.5))
        axis.spines["bottom"].set_visible(False)
        add_legend(figure)
        return figure


def _scale(known: Sequence[float]) -> Callable[[float], float]:
    """From values to [0.05, 0.95], by logarithms where they span a factor of 20; what is infinite to 0 and 1."""
    finite = [x for x in known if np.isfinite(x)]
    form: Any = np.log if min(finite) > 0 and max(finite) > 20 * min(finite) else float
    low, width = form(min(finite)), form(max(finite)) - form(min(finite))
    return lambda x: float(0.05 + 0.9 * (form(x) - low) / (width or 1)) if np.isfinite(x) else float(x > 0)

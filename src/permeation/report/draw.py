"""How figures are drawn: curves and points in panels, maps of heads, and the forest of claims."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from permeation.report.claims import Claim
from permeation.report.labels import label
from permeation.report.sections import LEVEL

plt.style.use(Path(__file__).with_name("style.mplstyle"))

Rows = Sequence[Mapping[str, Any]]
COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6")  # of style.mplstyle, as is C7
BLUE, ORANGE, GREEN, GREY = "C0", "C1", "C2", "C7"
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
MARKERS = "os^DvP*"
BEATEN = "beaten in both"  # a series that is drawn in grey


def save(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(target, metadata={"Software": None})
    plt.close(figure)


def values(rows: Rows, column: str) -> list[Any]:
    """One column, with NaN where there is no value."""
    return [np.nan if row[column] is None else row[column] for row in rows]


def groups(rows: Rows, column: str) -> dict[Any, Rows]:
    """The rows by the values of a column, in order of appearance; all of them under "" where no column is named."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[column] if column else "", []).append(row)
    return dict(found)


@dataclass(frozen=True)
class Spec:
    """How a figure is drawn from its rows, as figures.yaml has it.

    Attributes:
        kind: curves or map.
        label: of the y axis, or of the colours.
        panel, series: the columns whose values are the panels, and the lines or kinds of points in a panel.
        y, x: the columns that are drawn; of a map y alone.
        detail: a column that splits a series into thin lines, and a thick one where it is `mean`.
        rule: where a thin horizontal line stands.
        points: error bars, joined by lines on a logarithmic x where `joined`.
        x_ends, y_ends: the columns of the points' intervals.
        log: a logarithmic y. percent: y is a share.
    """

    kind: str = "curves"
    label: str = ""
    panel: str = ""
    series: str = ""
    y: str = "value"
    x: str = "depth"
    x_label: str = "depth l / L"
    detail: str = ""
    rule: float | None = None
    points: bool = False
    joined: bool = False
    x_ends: Sequence[str] | None = None
    y_ends: Sequence[str] = ("low", "high")
    log: bool = False
    percent: bool = False
    colours: Sequence[str] = COLOURS
    styles: Sequence[Any] = STYLES

    def draw(self, rows: Rows) -> Figure:
        """The figure of these rows."""
        return {"curves": curves, "map": maps}[self.kind](self, rows)


def panels(spec: Spec, rows: Rows, width: float, height: float, across: int) -> tuple[Figure, list[tuple[Any, Rows]]]:
    """A figure, and its axes with the rows of each."""
    drawn = groups(rows, spec.panel)
    across = min(across, len(drawn))
    down = -(-len(drawn) // across)
    size = max(width * across, 4.2), height * down + 0.7
    shared = len(drawn) > 2 and not spec.log
    figure, grid = plt.subplots(down, across, squeeze=False, figsize=size, sharex=True, sharey=shared)
    for axis, name in zip(grid.flat, drawn, strict=False):
        axis.set_title(textwrap.fill(label(name), 26))
    for axis in grid.flat[len(drawn) :]:
        axis.set_visible(False)
    figure.supylabel(spec.label)
    return figure, list(zip(grid.flat[: len(drawn)], drawn.values(), strict=True))


def add_legend(figure: Figure) -> None:
    """One legend above all panels, with each name once."""
    marks = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in figure.axes]
    if known := {name: mark for pairs in marks for mark, name in pairs}:
        across = int(figure.get_figwidth() // 2)
        figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=across)


def curves(spec: Spec, rows: Rows) -> Figure:
    """Lines with bands, or points with error bars, where rows have low and high."""
    many = len(groups(rows, spec.panel))
    width, height = (2.6, 3.2) if spec.points else (2.4 if many > 2 else 3.4, 2.0 if many > 3 else 2.8)
    figure, inside = panels(spec, rows, width, height, 4 if spec.points else 3)
    names = [*groups(rows, spec.series)]
    for axis, drawn in inside:
        for name, own in groups(drawn, spec.series).items():
            i = names.index(name)
            colour = GREY if name == BEATEN else spec.colours[i % len(spec.colours)]
            (_points if spec.points else _lines)(spec, axis, own, label(name) or None, colour, i)
        if spec.rule is not None:
            axis.axhline(spec.rule, color=GREY, linewidth=0.7, linestyle="--")
        if spec.joined:
            axis.set_xscale("log")
        if spec.log:
            axis.set_yscale("log")
        if spec.percent:
            axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    figure.supxlabel(spec.x_label)
    add_legend(figure)
    return figure


def _lines(spec: Spec, axis: Any, rows: Rows, name: str | None, colour: str, i: int) -> None:
    look: dict[str, Any] = {"color": colour, "linestyle": spec.styles[i % len(spec.styles)]}
    for each, line in groups(rows, spec.detail).items():
        x, y = values(line, spec.x), values(line, spec.y)
        if spec.detail and each != "mean":
            axis.plot(x, y, **look, linewidth=0.7, alpha=0.35)
            continue
        axis.plot(x, y, **look, linewidth=1.8, label=name or "mean over words")
        if line[0].get("low") is not None:
            axis.fill_between(x, values(line, "low"), values(line, "high"), color=colour, alpha=0.2, linewidth=0)


def _points(spec: Spec, axis: Any, rows: Rows, name: str | None, colour: str, i: int) -> None:
    if spec.joined:  # a share of the variance may be fewer components than the last count
        rows = sorted(rows, key=lambda row: row[spec.x])
    look = {"fmt": MARKERS[i % len(MARKERS)] + "-" * spec.joined, "color": colour, "label": name}
    look |= {"xerr": _bars(rows, spec.x, spec.x_ends), "yerr": _bars(rows, spec.y, spec.y_ends)}
    axis.errorbar(values(rows, spec.x), values(rows, spec.y), **look, alpha=0.4 if name == BEATEN else 1.0)
    axis.margins(0.1)


def _bars(rows: Rows, column: str, ends: Sequence[str] | None) -> Any:
    """How far each interval reaches below and above its value; None where there are none."""
    if ends is None or ends[0] not in rows[0]:
        return None
    value, low, high = (np.array(values(rows, name), dtype=float) for name in (column, *ends))
    return np.maximum(0, [value - low, high - value])


def maps(spec: Spec, rows: Rows) -> Figure:
    """A cell for each head with one colour scale; layer 0 is at the bottom. Dots: heads whose `p` is below 0.05."""
    layers, heads = (1 + max(values(rows, column)) for column in ("layer", "head"))
    figure, inside = panels(spec, rows, 2.0, max(2.2, 0.1 * layers), 9)
    most = max(map(abs, values(rows, spec.y))) or 1.0
    for axis, drawn in inside:
        table = np.zeros((layers, heads))
        for row in drawn:
            table[row["layer"], row["head"]] = row[spec.y]
        image = axis.imshow(table, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto", origin="lower")
        marked = [row for row in drawn if row.get("p", 1) < LEVEL]
        axis.plot(values(marked, "head"), values(marked, "layer"), "o", color="black", markersize=2.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(visible=False)
    figure.supxlabel("head")
    figure.supylabel("layer")
    figure.colorbar(image, ax=[axis for axis, _ in inside], label=spec.label)
    return figure


def forest(claims: Sequence[Claim]) -> Figure:
    """A line for each claim on a scale of its own: what it accepts, what was found, the null model."""
    figure, axis = plt.subplots(figsize=(7, 0.36 * len(claims) + 0.9))
    for y, claim in enumerate(claims):
        null = [value for value, _, _ in claim.null]
        scale = _scale([*(x for each in claim.found for x in each), *null, *claim.accepted])
        axis.plot([scale(x) for x in claim.accepted], [y, y], color=GREEN, alpha=0.45, linewidth=7, label="accepted")
        for value, low, high in ([scale(x) for x in each] for each in claim.found):
            axis.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", color=BLUE, label="found, 95 %")
        axis.plot([scale(x) for x in null], [y] * len(null), "D", color=ORANGE, mfc="white", label="null model")
        axis.text(1.06, y, claim.row()[0], va="center", fontsize=8)
    axis.set_yticks(range(len(claims)), [textwrap.fill(claim.words, 52) for claim in claims])
    axis.set(xlim=(-0.04, 1.04), xticks=[], ylim=(len(claims) - 0.5, -0.5))
    add_legend(figure)
    return figure


def _scale(known: Sequence[float]) -> Callable[[float], float]:
    """From values to [0.05, 0.95], by logarithms where they span a factor of 20; what is infinite to 0 and 1."""
    finite = [x for x in known if np.isfinite(x)]
    form: Any = np.log if min(finite) > 0 and max(finite) > 20 * min(finite) else float
    low, width = form(min(finite)), form(max(finite)) - form(min(finite))
    return lambda x: float(0.05 + 0.9 * (form(x) - low) / (width or 1)) if np.isfinite(x) else float(x > 0)

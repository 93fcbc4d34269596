"""Figures from the same long-format rows that `dvc plots` draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]

mpl.use("agg")

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
CONDITION_COLOURS = {
    "strong_A": "#0072B2",
    "weak_A": "#56B4E9",
    "neutral": "#666666",
    "weak_B": "#E69F00",
    "strong_B": "#D55E00",
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def style() -> None:
    """The one look that all figures share."""
    plt.style.use(Path(__file__).with_name("figures.mplstyle"))


def _values(rows: Rows, column: str) -> list[Any]:
    return [row[column] for row in rows]


def _where(rows: Rows, **wanted: Any) -> Rows:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _unique(rows: Rows, column: str) -> list[Any]:
    return list(dict.fromkeys(_values(rows, column)))


def sigma_fans(rows: Rows) -> Figure:
    """σ by depth for the five conditions, a panel per word."""
    words = _unique(rows, "word")
    columns = min(3, len(words))
    figure, axes = plt.subplots(
        -(-len(words) // columns),
        columns,
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(2.4 * columns, 2 * -(-len(words) // columns) + 0.6),
    )
    for axis, word in zip(axes.flat, words, strict=False):
        for condition, colour in CONDITION_COLOURS.items():
            line = _where(rows, word=word, condition=condition)
            axis.plot(_values(line, "depth"), _values(line, "sigma"), color=colour, label=condition.replace("_", " "))
        axis.set_title(word)
        axis.axhline(0, color=GREY, linewidth=0.5)
    for axis in axes.flat[len(words) :]:
        axis.set_visible(False)
    figure.supxlabel("depth l / L")
    figure.supylabel("σ (cosine with the contrast direction)")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def g_curves(rows: Rows) -> Figure:
    """g by depth: a line per word, their mean, and the middle 95 % of the mean with shuffled senses."""
    figure, axis = plt.subplots(figsize=(4.2, 3))
    for word in _unique(_where(rows, kind="word"), "word"):
        line = _where(rows, kind="word", word=word)
        axis.plot(_values(line, "depth"), _values(line, "g"), color=BLUE, alpha=0.35, linewidth=0.8)
    mean, null = _where(rows, kind="mean"), _where(rows, kind="null")
    axis.plot(_values(mean, "depth"), _values(mean, "g"), color=BLUE, linewidth=2, label="mean over words")
    axis.fill_between(
        _values(null, "depth"), _values(null, "low"), _values(null, "high"), color=ORANGE, alpha=0.3, linewidth=0
    )
    axis.plot(_values(null, "depth"), _values(null, "g"), color=ORANGE, label="senses shuffled (95 % band)")
    axis.set(xlabel="depth l / L", ylabel="g = f / f_max")
    axis.legend()
    return figure


def spectra(rows: Rows) -> Figure:
    """Cumulative share of the variance of W_QK over the heads, by number of components."""
    figure, axis = plt.subplots(figsize=(4.2, 3))
    for form, colour in zip(_unique(rows, "form"), (BLUE, ORANGE, GREEN), strict=False):
        line = _where(rows, form=form)
        axis.plot(_values(line, "components"), _values(line, "cumulative"), color=colour, label=form)
    axis.set(xlabel="principal components K", ylabel="share of variance", ylim=(0, 1.02))
    axis.legend()
    return figure


def ratio_curve(rows: Rows, x: str, label: str) -> Figure:
    """Perplexity over the untouched model's with its 95 % interval, both axes logarithmic."""
    figure, axis = plt.subplots(figsize=(4.2, 3))
    ratio = _values(rows, "ratio")
    below = [row["ratio"] - row["low"] for row in rows]
    above = [row["high"] - row["ratio"] for row in rows]
    axis.errorbar(_values(rows, x), ratio, yerr=(below, above), color=BLUE, marker="o", markersize=3, capsize=2)
    axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(xscale="log", yscale="log", xlabel=label, ylabel="perplexity ratio")
    return figure


def head_map(rows: Rows) -> Figure:
    """The heads on their first two components, coloured by layer."""
    figure, axis = plt.subplots(figsize=(4.2, 3))
    points = axis.scatter(
        _values(rows, "component_1"), _values(rows, "component_2"), c=_values(rows, "layer"), cmap="viridis", s=14
    )
    axis.set(xlabel="component 1 (‖M‖)", ylabel="component 2 (‖M‖)")
    figure.colorbar(points, label="layer")
    return figure

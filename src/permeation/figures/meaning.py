"""Figures of the meaning axis."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from permeation.figures.style import BLUE, GREY, ORANGE, Rows, unique, values, where

CONDITION_COLOURS = {
    "strong_A": "#0072B2",
    "weak_A": "#56B4E9",
    "neutral": "#666666",
    "weak_B": "#E69F00",
    "strong_B": "#D55E00",
}


def sigma_fans(rows: Rows) -> Figure:
    """σ by depth for the five conditions, a panel per word."""
    words = unique(rows, "word")
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
            line = where(rows, word=word, condition=condition)
            axis.plot(values(line, "depth"), values(line, "sigma"), color=colour, label=condition.replace("_", " "))
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
    for word in unique(where(rows, kind="word"), "word"):
        line = where(rows, kind="word", word=word)
        axis.plot(values(line, "depth"), values(line, "g"), color=BLUE, alpha=0.35, linewidth=0.8)
    mean, null = where(rows, kind="mean"), where(rows, kind="null")
    axis.plot(values(mean, "depth"), values(mean, "g"), color=BLUE, linewidth=2, label="mean over words")
    axis.fill_between(
        values(null, "depth"), values(null, "low"), values(null, "high"), color=ORANGE, alpha=0.3, linewidth=0
    )
    axis.plot(values(null, "depth"), values(null, "g"), color=ORANGE, label="senses shuffled (95 % band)")
    axis.set(xlabel="depth l / L", ylabel="g = f / f_max")
    axis.legend()
    return figure


# By the name of the table they are drawn from, plots/<name>.json.
FIGURES: dict[str, Callable[[Rows], Figure]] = {"sigma": sigma_fans, "g": g_curves}

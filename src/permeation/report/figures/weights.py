"""Figures of the weight axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from permeation.report.figures.style import BLUE, GREEN, GREY, ORANGE, PINK, Rows, unique, values, where
from permeation.report.labels import label

# Heads that a spectrum is of, as the table names them: the model's, and heads of the same sizes in random directions.
OWN, RANDOM, UNIT = "as they are", "random frames", "unit norm"
# Beyond a ratio of 2 nobody would use the model; below a ratio of 1.0003 nobody could tell.
HOPELESS, FLOOR = 2.0, 3e-4


def spectra(rows: Rows) -> Figure:
    """How much of the variance of all heads' W_QK the first K components explain. A small shared subspace would be a
    curve that is at 1 almost at once. Dashed: heads of the same sizes in random directions. What a solid curve lies
    above its dashed one is more than such heads have in common.
    """
    figure, axes = plt.subplots(ncols=2, figsize=(7.6, 3), sharey=True)
    for axis, (own, null) in zip(axes, ((OWN, RANDOM), (UNIT, f"{RANDOM}, {UNIT}")), strict=True):
        for form, colour in zip(unique(rows, "form"), (BLUE, ORANGE, GREEN, PINK), strict=False):
            for heads, style in ((own, "-"), (null, "--")):
                line = where(rows, form=form, heads=heads)
                name = label(form) if heads == own else None
                axis.plot(values(line, "components"), values(line, "cumulative"), style, color=colour, label=name)
        axis.set(xlabel="principal components K", title=f"heads {own}" if own == OWN else f"heads of {own}")
        axis.set(ylim=(0, 1.02))
    axes[0].plot([], [], "--", color=GREY, label=RANDOM)
    axes[0].set(ylabel="share of variance")
    axes[0].legend(loc="lower right")
    return figure


def margins(rows: Rows) -> tuple[list[float], list[float]]:
    """The error bars of ratios: how far each interval reaches below and above."""
    return [row["ratio"] - row["low"] for row in rows], [row["high"] - row["ratio"] for row in rows]


def ratio_curve(rows: Rows, x: str, label: str) -> Figure:
    """Perplexity over the untouched model's with its 95 % interval, both axes logarithmic."""
    figure, axis = plt.subplots(figsize=(4.8, 3.2))
    for replaced, colour in zip(unique(rows, "replaced"), (BLUE, ORANGE), strict=False):
        # A share of the variance may be fewer components than the last count.
        line = sorted(where(rows, replaced=replaced), key=lambda row: row[x])
        style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3, "capsize": 2, "label": replaced}
        axis.errorbar(values(line, x), values(line, "ratio"), yerr=margins(line), **style)
    axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(xscale="log", yscale="log", xlabel=label, ylabel="perplexity ratio")
    figure.legend(title="W_QK replaced in", loc="outside upper center", ncols=2)
    return figure


def rebuilt(rows: Rows) -> Figure:
    """What it costs to rebuild the heads from K components: 1, the dashed line, would cost nothing, 100 makes the model
    useless. The last point is all components, which gives the model back; whether anything short of it comes near the
    line is the question.
    """
    return ratio_curve(rows, "components", "principal components K")


def clustered(rows: Rows) -> Figure:
    """What it costs when the heads of each of k clusters share one W_QK: the line at 1 would cost nothing. Few heads
    share anything where k is near the number of heads.
    """
    return ratio_curve(rows, "k", "clusters k")


def pareto(rows: Rows) -> Figure:
    """How much more perplexity each way of storing W_Q and W_K costs, by the bits that it takes for each number. Left
    and down is better; below the dashed line a model loses less than 5 %. Strong points are the frontier: no other
    takes fewer bits and loses less. Pale ones are beaten; what doubles the perplexity is out of the picture.
    """
    figure, axis = plt.subplots(figsize=(4.8, 3.6))
    colours = mpl.color_sequences["tab10"]
    drawn = [row for row in rows if row["ratio"] is not None and row["ratio"] <= HOPELESS]
    for row in drawn:
        if not row["frontier"]:
            axis.plot(row["bits"], max(row["ratio"] - 1, FLOOR), "o", color=GREY, alpha=0.4, markersize=3)
    axis.plot([], [], "o", color=GREY, alpha=0.4, markersize=3, label="beaten")
    best = sorted((row for row in drawn if row["frontier"]), key=lambda row: row["bits"])
    axis.plot(values(best, "bits"), [max(row["ratio"] - 1, FLOOR) for row in best], color=GREY, linewidth=0.8)
    for i, method in enumerate(unique(best, "method")):
        line = where(best, method=method)
        excess = [max(ratio - 1, FLOOR) for ratio in values(line, "ratio")]
        low = [x - max(row["low"] - 1, FLOOR) for x, row in zip(excess, line, strict=True)]
        high = [max(row["high"] - 1, FLOOR) - x for x, row in zip(excess, line, strict=True)]
        style: dict[str, Any] = {"color": colours[i % 10], "marker": "os^Dv"[i % 5], "linestyle": "none"}
        axis.errorbar(values(line, "bits"), excess, yerr=(low, high), markersize=5, capsize=2, label=method, **style)
    axis.axhline(0.05, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(yscale="log", ylim=(FLOOR, HOPELESS - 1), ylabel="more perplexity")
    axis.set(xlabel="bits for each number of W_Q and W_K")
    axis.yaxis.set_major_formatter(lambda excess, _: f"{100 * excess:g} %")
    axis.legend(loc="upper right")
    return figure


def layer_ratios(rows: Rows) -> Figure:
    """What it costs to rebuild the heads of one layer alone. A layer far above the others is where the method fails, or
    where the model keeps what the components leave out.
    """
    figure, axis = plt.subplots(figsize=(4.2, 3))
    style: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 3, "capsize": 2, "linestyle": "none"}
    axis.errorbar(values(rows, "layer"), values(rows, "ratio"), yerr=margins(rows), **style)
    axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(yscale="log", xlabel="the layer that is rebuilt", ylabel="perplexity ratio")
    return figure


def band_ratios(rows: Rows) -> Figure:
    """What it costs to drop a third (or another part) of the components, and how much variance went with them. Were
    variance what counts, the costs would fall from left to right.
    """
    figure, axis = plt.subplots(figsize=(4.8, 3.2))
    for replaced, colour in zip(unique(rows, "replaced"), (BLUE, ORANGE), strict=False):
        bands = where(rows, replaced=replaced)
        style: dict[str, Any] = {"color": colour, "marker": "o", "capsize": 3, "linestyle": "none", "label": replaced}
        axis.errorbar(range(len(bands)), values(bands, "ratio"), yerr=margins(bands), **style)
    labels = [f"{row['first']}–{row['last']}\n{row['variance']:.1%} of variance" for row in bands]
    axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(yscale="log", xlabel="the components that are dropped", ylabel="perplexity ratio")
    axis.set_xticks(range(len(labels)), labels)
    axis.margins(x=0.2)
    axis.legend(title="dropped in")
    return figure


def head_map(rows: Rows) -> Figure:
    """Each point is a head, on the first two components of W_QK. Clouds of one colour would be heads of one layer (top)
    or of one cluster (bottom) that do much the same.
    """
    forms = unique(rows, "form")
    size = (3 * len(forms), 5)
    figure, axes = plt.subplots(2, len(forms), figsize=size, sharex="col", sharey="col", squeeze=False)
    for row, (colour, palette) in zip(axes, (("layer", "viridis"), ("cluster", "nipy_spectral")), strict=True):
        for axis, form in zip(row, forms, strict=True):
            heads = where(rows, form=form)
            x, y = values(heads, "component_1"), values(heads, "component_2")
            points = axis.scatter(x, y, c=values(heads, colour), cmap=palette, s=10)
        figure.colorbar(points, ax=row, label=colour)
    for axis, form in zip(axes[0], forms, strict=True):
        axis.set(title=label(form))
    for axis in axes[1]:
        axis.set(xlabel="component 1")
    for row in axes:
        row[0].set(ylabel="component 2")
    return figure


# By the name of the table they are drawn from, plots/<name>.json.
FIGURES: dict[str, Callable[[Rows], Figure]] = {
    "spectrum": spectra,
    "perplexity": rebuilt,
    "clusters": clustered,
    "pareto": pareto,
    "layers": layer_ratios,
    "bands": band_ratios,
    "heads": head_map,
}

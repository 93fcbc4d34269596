"""Figures of where both axes meet."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from permeation.report.figures.style import GREY, Rows, unique, values, where
from permeation.report.labels import label

LEVEL = 0.05
OUTCOMES = ("exchange", "mean", "within_sense")  # of one unit, and drawn with one scale
MAPS = (*OUTCOMES, "direct")
PROPERTIES = ("norm_score", "low_variance_gram", "low_variance_score", "cost", "attention")


def role_maps(rows: Rows) -> Figure:
    """What each head brings of the sense, a cell a head, from the first layer (bottom) to the last. Orange: it pushes
    what follows (last panel: the residual stream) towards the sense of its own prompt; violet: away. Dots: heads whose
    effect is told from chance among all heads (family-wise p < 0.05). The control should have no colour.
    """
    layers, heads = (1 + max(values(rows, column)) for column in ("layer", "head"))
    size = (2.6 * len(MAPS), max(2.4, 0.14 * layers + 1))
    figure, axes = plt.subplots(ncols=len(MAPS), figsize=size, sharey=True)
    largest = {series: max(map(abs, values(where(rows, series=series), "share"))) for series in MAPS}
    together = max(largest[series] for series in OUTCOMES)
    for axis, series in zip(axes, MAPS, strict=True):
        own = where(rows, series=series)
        most = (together if series in OUTCOMES else largest[series]) or 1.0
        table = np.zeros((layers, heads))
        for row in own:
            table[row["layer"], row["head"]] = row["share"]
        image = axis.imshow(table, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto", origin="lower")
        marked = [row for row in own if row["p"] < LEVEL]
        axis.plot(values(marked, "head"), values(marked, "layer"), "o", color="black", markersize=2.5)
        axis.set(title=textwrap.fill(label(series), 22), xlabel="head")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(visible=False)
        figure.colorbar(image, ax=axis)
    axes[0].set_ylabel("layer")
    return figure


def beside(rows: Rows) -> Figure:
    """Each point is a head: how much it brings of the sense (the size of what its exchange does), beside what else is
    known of it. A head that the weight axis finds important would stand to the right.
    """
    figure, axes = plt.subplots(ncols=len(PROPERTIES), figsize=(2.3 * len(PROPERTIES), 2.8), sharey=True)
    for axis, name in zip(axes, PROPERTIES, strict=True):
        points = axis.scatter(
            values(rows, name), np.abs(values(rows, "exchange")), c=values(rows, "layer"), cmap="viridis", s=8
        )
        axis.set(xlabel=label(name))
    axes[0].set(ylabel="|share| of the exchange")
    figure.colorbar(points, ax=axes, label="layer")
    return figure


def kept_sense(rows: Rows) -> Figure:
    """How much of the sense a compressed model keeps, by its perplexity over the untouched one's: a point a method and
    size, with 95 % intervals of both. On the dashed line all is kept. A method that keeps perplexity and loses the
    sense would stand low at the left; the reverse, high at the right.
    """
    measures, methods = unique(rows, "measure"), unique(rows, "method")
    colours = mpl.color_sequences["tab10"]
    figure, axes = plt.subplots(1, len(measures), figsize=(2.5 * len(measures), 3.4), sharex=True, squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        for i, method in enumerate(methods):
            line = [row for row in where(rows, measure=measure, method=method) if row["kept"] is not None]
            x, y = values(line, "ratio"), values(line, "kept")
            across = [[row["ratio"] - row["low"] for row in line], [row["high"] - row["ratio"] for row in line]]
            up = [
                [max(0.0, row["kept"] - row["kept_low"]) for row in line],
                [max(0.0, row["kept_high"] - row["kept"]) for row in line],
            ]
            axis.errorbar(
                *(x, y, up, across),
                fmt="os^Dv"[i // 10 % 5],
                color=colours[i % 10],
                markersize=4,
                elinewidth=0.7,
                label=method,
            )
        axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
        axis.set(title=label(measure), xlabel="perplexity ratio")
    axes[0, 0].set(ylabel="kept, of the untouched model's")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# By the name of the table they are drawn from, plots/<name>.json.
FIGURES: dict[str, Callable[[Rows], Figure]] = {
    "head_roles": role_maps,
    "heads_beside": beside,
    "compressed": kept_sense,
}

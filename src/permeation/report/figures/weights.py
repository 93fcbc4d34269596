"""Figures of the weight axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from permeation.report.figures.style import BLUE, GREEN, GREY, ORANGE, PINK, Rows, unique, values, where

NAMES = {"score": "score metric", "score_centred": "score metric, mean key out"}


def spectra(rows: Rows) -> Figure:
    """Cumulative share of the variance of W_QK over the heads, by number of components; random heads dashed."""
    figure, axes = plt.subplots(ncols=2, figsize=(7.6, 3), sharey=True)
    for axis, norm in zip(axes, ("as they are", "unit norm"), strict=True):
        for form, colour in zip(unique(rows, "form"), (BLUE, ORANGE, GREEN, PINK), strict=False):
            null = "random frames" if norm == "as they are" else f"random frames, {norm}"
            for heads, style in ((norm, "-"), (null, "--")):
                line = where(rows, form=form, heads=heads)
                label = NAMES.get(form, f"{form} form") if heads == norm else None
                axis.plot(values(line, "components"), values(line, "cumulative"), style, color=colour, label=label)
        axis.set(xlabel="principal components K", title=f"heads {norm}", ylim=(0, 1.02))
    axes[0].plot([], [], "--", color=GREY, label="random frames")
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
        line = where(rows, replaced=replaced)
        style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3, "capsize": 2, "label": replaced}
        axis.errorbar(values(line, x), values(line, "ratio"), yerr=margins(line), **style)
    axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(xscale="log", yscale="log", xlabel=label, ylabel="perplexity ratio")
    axis.legend(title="W_QK replaced in")
    return figure


def pareto(rows: Rows) -> Figure:
    """Perplexity ratio against the stored share of W_Q and W_K, a line a method, with 95 % intervals."""
    figure, axis = plt.subplots(figsize=(7.2, 4.2))
    methods = unique(rows, "method")
    colours = mpl.color_sequences["tab10"]
    for i, method in enumerate(methods):
        line = sorted(where(rows, method=method), key=lambda row: row["stored_share"])
        ratio = values(line, "ratio")
        style: dict[str, Any] = {
            "color": colours[i % 10],
            "marker": "os^Dv"[i // 10 % 5],
            "markersize": 4,
            "capsize": 2,
        }
        axis.errorbar(values(line, "stored_share"), ratio, yerr=margins(line), label=method, **style)
    axis.axhline(1.05, color=GREY, linewidth=0.8, linestyle="--")
    axis.annotate("1.05", (1.0, 1.05), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=GREY)
    axis.set(yscale="log", xlabel="stored share of W_Q and W_K (16 bits a number)", ylabel="perplexity ratio")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def layer_ratios(rows: Rows) -> Figure:
    """Perplexity ratio with a single layer rebuilt, by layer."""
    figure, axis = plt.subplots(figsize=(4.2, 3))
    style: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 3, "capsize": 2, "linestyle": "none"}
    axis.errorbar(values(rows, "layer"), values(rows, "ratio"), yerr=margins(rows), **style)
    axis.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(yscale="log", xlabel="the layer that is rebuilt", ylabel="perplexity ratio")
    return figure


def band_ratios(rows: Rows) -> Figure:
    """Perplexity ratio with one band of components dropped, and the variance that went with it."""
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
    """The heads on their first two components in each form, coloured by layer (top) and by cluster (bottom)."""
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
        axis.set(title=NAMES.get(form, f"{form} form"))
    for axis in axes[1]:
        axis.set(xlabel="component 1")
    for row in axes:
        row[0].set(ylabel="component 2")
    return figure


# By the name of the table they are drawn from, plots/<name>.json.
FIGURES: dict[str, Callable[[Rows], Figure]] = {
    "spectrum": spectra,
    "perplexity": partial(ratio_curve, x="components", label="principal components K"),
    "clusters": partial(ratio_curve, x="k", label="clusters k"),
    "pareto": pareto,
    "layers": layer_ratios,
    "bands": band_ratios,
    "heads": head_map,
}

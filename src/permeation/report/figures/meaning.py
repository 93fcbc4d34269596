"""Figures of the meaning axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from permeation.report.figures.style import BLUE, GREEN, GREY, ORANGE, Rows, unique, values, where
from permeation.report.labels import label

CONDITION_COLOURS = {
    "strong_A": "#0072B2",
    "weak_A": "#56B4E9",
    "neutral": "#666666",
    "weak_B": "#E69F00",
    "strong_B": "#D55E00",
}
LINES = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00")


def panels(words: list[str], width: float = 2.4, height: float = 2.0, **options: Any) -> tuple[Figure, list[Any]]:
    """A grid of small axes, one per word, three in a row."""
    columns = min(3, len(words))
    lines = -(-len(words) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        squeeze=False,
        figsize=(max(width * columns, 5.2), height * lines + 0.7),
        **({"sharex": True, "sharey": True} | options),
    )
    for axis, word in zip(axes.flat, words, strict=False):
        axis.set_title(word)
    for axis in axes.flat[len(words) :]:
        axis.set_visible(False)
    return figure, list(axes.flat[: len(words)])


def sigma_fans(rows: Rows) -> Figure:
    """σ at the word after each layer, in five contexts. Where a context settles the sense its line leaves the others
    and stays away, those of sense A above those of sense B. 0 is not neutral: all lines of a word drift together.
    """
    words = unique(rows, "word")
    figure, axes = panels(words)
    for axis, word in zip(axes, words, strict=True):
        for condition, colour in CONDITION_COLOURS.items():
            line = where(rows, word=word, condition=condition)
            axis.plot(values(line, "depth"), values(line, "sigma"), color=colour, label=condition.replace("_", " "))
        axis.axhline(0, color=GREY, linewidth=0.5)
    figure.supxlabel("depth l / L")
    figure.supylabel("σ (cosine with the contrast direction)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def band(axis: Any, rows: Rows, colour: str, name: str | None = None) -> None:
    """The area between low and high."""
    axis.fill_between(
        values(rows, "depth"),
        values(rows, "low"),
        values(rows, "high"),
        color=colour,
        alpha=0.25,
        linewidth=0,
        label=name,
    )


def meaning_and_drift(rows: Rows) -> Figure:
    """σ of the strong contexts taken apart. The dashed line is what both senses share: drift, and no meaning. The blue
    line is what tells them apart; only what stands above the orange band is meaning.
    """
    words = unique(rows, "word")
    figure, axes = panels(words)
    for axis, word in zip(axes, words, strict=True):
        common, sense, null, shuffled = (
            where(rows, word=word, part=part) for part in ("common", "sense", "within_senses", "senses_shuffled")
        )
        band(axis, null, ORANGE, f"drift: {label('within_senses')} (95 %)")
        axis.plot(
            values(common, "depth"),
            values(common, "value"),
            color=GREY,
            linestyle="--",
            label="common: (strong A + strong B) / 2",
        )
        axis.plot(
            values(sense, "depth"),
            values(sense, "value"),
            color=BLUE,
            linewidth=1.8,
            label="sense: (strong A − strong B) / 2",
        )
        beyond = [y > row["high"] for y, row in zip(values(sense, "value"), null, strict=True)]
        axis.fill_between(
            values(sense, "depth"),
            values(null, "high"),
            values(sense, "value"),
            where=beyond,
            color=BLUE,
            alpha=0.25,
            linewidth=0,
            label="meaning: beyond the band",
        )
        axis.plot(
            values(shuffled, "depth"),
            values(shuffled, "high"),
            color="black",
            linestyle=":",
            linewidth=0.9,
            label="97.5 % of sense shuffles (the test)",
        )
        axis.axhline(0, color=GREY, linewidth=0.5)
    figure.supxlabel("depth l / L")
    figure.supylabel("part of σ (cosine)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def g_curves(rows: Rows) -> Figure:
    """g, the shape of the response over depth, a line per word. The more alike the lines, the better one curve stands
    for all words; how alike they are without any sense, the next figure says.
    """
    figure, axis = plt.subplots(figsize=(4.2, 3))
    for i, word in enumerate(unique(where(rows, kind="word"), "word")):
        line = where(rows, kind="word", word=word)
        name = "a word" if i == 0 else None
        axis.plot(values(line, "depth"), values(line, "g"), color=BLUE, alpha=0.35, linewidth=0.8, label=name)
    mean = where(rows, kind="mean")
    axis.plot(values(mean, "depth"), values(mean, "g"), color=BLUE, linewidth=2, label="mean over words")
    axis.set(xlabel="depth l / L", ylabel="g = f / f_max")
    axis.legend()
    return figure


def null_models(rows: Rows) -> Figure:
    """The words' mean g (blue, in every panel) over what null models give: the median and the middle 95 %. Where the
    blue line runs inside the band, the shape says nothing about meaning.
    """
    models = [name for name in unique(rows, "panel") if name != "words"]
    words = where(rows, panel="words")
    figure, axes = panels(models)
    for axis, model in zip(axes, models, strict=True):
        drawn = where(rows, panel=model)
        axis.set_title(label(model))
        band(axis, drawn, ORANGE, "null model (95 %)")
        axis.plot(values(drawn, "depth"), values(drawn, "value"), color=ORANGE, linestyle="--", label="its median")
        axis.plot(values(words, "depth"), values(words, "value"), color=BLUE, linewidth=1.8, label="the words")
    figure.supxlabel("depth l / L")
    figure.supylabel("g = f / f_max, mean over words")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def controls(rows: Rows) -> Figure:
    """What g is: with another h and predicted from the direction prompts alone; and the sense read at the word and at
    the token before it (AUC of graded prompts along the layer's own direction).
    """
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.1))
    for axis, panel in zip(axes, ("g", "auc"), strict=True):
        for series, colour, style in zip(
            unique(where(rows, panel=panel), "series"), (BLUE, ORANGE, "black"), ("-", "--", ":"), strict=False
        ):
            line = where(rows, panel=panel, series=series)
            axis.plot(values(line, "depth"), values(line, "value"), color=colour, linestyle=style, label=label(series))
            if line[0]["low"] is not None:
                what = f"{label('senses_shuffled')}, the same (95 %)" if panel == "g" else None
                band(axis, line, colour, what)
        axis.set(xlabel="depth l / L")
    axes[1].axhline(0.5, color=GREY, linewidth=0.8)
    axes[0].set_ylabel("g, mean over words")
    axes[1].set_ylabel("AUC of sense A against B, mean over words")
    axes[0].legend(loc="upper left")
    axes[1].legend(loc="lower right")
    return figure


def depths(rows: Rows) -> Figure:
    """On one axis of depth, per word: how well the sense can be read (AUC), how much of it follows when one direction
    is shifted at that layer (R: what the model uses), and g. R says when the
    model takes up what can be read.
    """
    words = unique(rows, "panel")
    figure, axes = panels(words)
    lines = (
        ("auc", GREEN, "--", "read: AUC of clear prompts"),
        ("response", ORANGE, "-", "used: R of one direction"),
        ("g", BLUE, "-.", "g = f / f_max"),
    )
    for axis, word in zip(axes, words, strict=True):
        for series, colour, style, name in lines:
            line = where(rows, panel=word, series=series)
            axis.plot(
                values(line, "depth"),
                values(line, "value"),
                color=colour,
                linestyle=style,
                marker="o" if series == "response" else None,
                markersize=2.5,
                label=name,
            )
        axis.axhline(0.5, color=GREY, linewidth=0.5)
    figure.supxlabel("depth l / L")
    figure.supylabel("AUC, R, g")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def interventions(rows: Rows) -> Figure:
    """R by the layer that is changed, mean over words: of the whole stream (transplant), of one direction, of erasing
    it, and of the controls; in the next token, one token later, and in σ at the last layer.
    """
    outcomes = unique(rows, "panel")
    figure, axes = plt.subplots(1, len(outcomes), sharey=True, figsize=(7, 3.1))
    colours = (BLUE, ORANGE, GREEN, GREY, "black")
    for axis, outcome in zip(axes, outcomes, strict=True):
        mean = where(rows, panel=outcome, word="mean")
        for series, colour, style in zip(unique(mean, "series"), colours, ("-", "--", "-.", ":", ":"), strict=True):
            line = where(mean, series=series)
            name = f"control: {label(series)}" if series == "within_senses" else label(series)
            axis.plot(values(line, "depth"), values(line, "value"), color=colour, linestyle=style, label=name)
        axis.axhline(0.5, color=GREY, linewidth=0.5)
        axis.set(title=label(outcome), xlabel="depth l / L of the change")
    axes[0].set_ylabel("R")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def decoding(rows: Rows) -> Figure:
    """From which layer on the sense can be read: 0.5 is chance, 1 is every prompt right. Bold: the mean over words with
    its interval; thin: each word; blue along the layer's own direction, orange along that of the last layer.
    """
    tests = {"direction": "clear contexts (leave pair out)", "gradient": "graded contexts (held out)"}
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(7, 3.1))
    for axis, (test, title) in zip(axes, tests.items(), strict=True):
        for along, colour, style in (("own", BLUE, "-"), ("final", ORANGE, "--")):
            for word in unique(rows, "word"):
                line = where(rows, test=test, direction=along, word=word)
                mean = word == "mean"
                axis.plot(
                    values(line, "depth"),
                    values(line, "auc"),
                    color=colour,
                    linestyle=style,
                    linewidth=2 if mean else 0.6,
                    alpha=1 if mean else 0.3,
                    label=f"{'own' if along == 'own' else 'final'} direction, mean (95 %)" if mean else None,
                )
                if mean:
                    band(axis, line, colour)
        axis.axhline(0.5, color=GREY, linewidth=0.8)
        axis.set(title=title, xlabel="depth l / L")
    axes[0].set_ylabel("AUC of sense A against B")
    axes[0].legend(loc="lower right")
    return figure


def responses(rows: Rows) -> Figure:
    """How strongly σ follows the context (f, left) and how well a straight line describes that (R², right), a line per
    word. Where R² is low, f and g stand for little.
    """
    figure, axes = plt.subplots(1, 2, sharex=True, figsize=(7, 3))
    words = unique(rows, "word")
    colours = plt.colormaps["viridis"](np.linspace(0, 0.9, len(words)))
    for word, colour in zip(words, colours, strict=True):
        line = where(rows, word=word)
        depth, f = values(line, "depth"), np.array(values(line, "f"))
        error = 1.96 * np.array(values(line, "standard_error"))
        axes[0].fill_between(depth, f - error, f + error, color=colour, alpha=0.12, linewidth=0)
        axes[0].plot(depth, f, color=colour, linewidth=1, label=word)
        axes[1].plot(depth, values(line, "r_squared"), color=colour, linewidth=1, label=word)
    axes[0].set(ylabel="response f (± 1.96 standard errors)")
    axes[1].set(ylabel="R² of σ on h", ylim=(0, 1.02))
    figure.supxlabel("depth l / L", fontsize="medium")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def fits(rows: Rows) -> Figure:
    """Laws fitted to f and g, best first. What is left below has no pattern where a law is right; a wave that all laws
    leave means that none of them is.
    """
    targets = {"f": "mean response f, without the last layer", "g": "mean g, without the excluded layers"}
    figure, axes = plt.subplots(2, 2, sharex=True, figsize=(7, 4.4), height_ratios=(2, 1))
    for (above, below), (target, title) in zip(axes.T, targets.items(), strict=True):
        for i, law in enumerate(unique(where(rows, target=target), "law")):
            line = where(rows, target=target, law=law)
            style = ("-", "--", "-.", ":", (0, (1, 3)))[i]
            if i == 0:
                above.plot(values(line, "depth"), values(line, "value"), "o", color="black", markersize=2.5)
            above.plot(
                values(line, "depth"),
                values(line, "fitted"),
                color=LINES[i],
                linestyle=style,
                label=law.replace("_", "-"),
            )
            below.plot(values(line, "depth"), values(line, "residual"), color=LINES[i], linestyle=style, linewidth=1)
        below.axhline(0, color=GREY, linewidth=0.5)
        below.set(xlabel="depth l / L")
        above.set(title=title)
        above.legend(title="law, best first", title_fontsize=8)
    axes[0, 0].set_ylabel("value")
    axes[1, 0].set_ylabel("residual")
    return figure


def revisions(rows: Rows) -> Figure:
    """g of several revisions: the mean over words, and each word in a panel of its own."""
    words = unique(rows, "word")
    figure, axes = panels(words, height=1.7)
    for axis, word in zip(axes, words, strict=True):
        for i, revision in enumerate(unique(rows, "revision")):
            line = where(rows, word=word, revision=revision)
            axis.plot(values(line, "depth"), values(line, "g"), color=LINES[i % len(LINES)], label=revision)
    figure.supxlabel("depth l / L")
    figure.supylabel("g = f / f_max")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


# By the name of the table they are drawn from, plots/<name>.json.
FIGURES: dict[str, Callable[[Rows], Figure]] = {
    "sigma": sigma_fans,
    "meaning": meaning_and_drift,
    "g": g_curves,
    "nulls": null_models,
    "controls": controls,
    "depths": depths,
    "intervene": interventions,
    "decoding": decoding,
    "response": responses,
    "fits": fits,
}

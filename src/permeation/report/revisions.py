"""The headline figures and g of two or more revisions or folders of results, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.meaning.likeness import compare_curves, compare_means, correlation, on_grid
from permeation.report.axes import AXES, MEANING, flat, headlines
from permeation.report.results import Results
from permeation.report.sections import columns, interval, number

GRID_POINTS = 101
RESAMPLES = 2000
Rows = list[dict[str, Any]]


def headlines_of(results: Results) -> dict[str, Any]:
    """The headline figures of the axes that are shown, by dotted key."""
    shown = [headlines(axis, results.metrics) for axis in AXES if axis.name in results.runs]
    return {key: value for figures in shown for key, value in flat(figures).items()}


def curves_of(results: Results) -> dict[str, Float[np.ndarray, "layers"]]:
    """Word to g, one value a layer; empty where the meaning axis is not shown."""
    curves: dict[str, list[float]] = {}
    rows = results.place.json("plots/meaning/g.json") if MEANING.name in results.runs else None
    for row in rows or ():
        if row["kind"] == "word":
            curves.setdefault(row["word"], []).append(row["g"])
    return {word: np.array(curve) for word, curve in curves.items()}


def compare_g(found: Sequence[Results], seed: int) -> Rows:
    """How alike g is, for every two runs: a record for each word that both have, and one for the mean.

    Where they share none, each word of the run with fewer words is compared with the mean of the other run's words;
    `inside` is the share of depths at which it lies between their lowest and highest curve.
    """
    records: Rows = []
    for pair in combinations([(each.place.name, g) for each in found if (g := curves_of(each))], 2):
        shared = [word for word in pair[0][1] if word in pair[1][1]]
        (one, first), (other, second) = pair if shared else sorted(pair, key=lambda each: len(each[1]))
        x, y = (on_grid(np.stack([g[word] for word in shared or g]), GRID_POINTS) for g in (first, second))
        names = {"first": one, "second": other}
        for i, word in enumerate(shared):
            records.append(names | {"word": word} | asdict(compare_curves(x[i], y[i])))
        if shared:
            mean = compare_means(x, y, RESAMPLES, np.random.default_rng(seed))
            records.append(names | {"word": "mean"} | asdict(mean))
            continue
        for word, curve in zip(first, x, strict=True):
            inside = float(((y.min(axis=0) <= curve) & (curve <= y.max(axis=0))).mean())
            alike = float(correlation(curve, y.mean(axis=0)))
            records.append(names | {"word": word, "correlation": alike, "inside": inside})
    return records


def curve_rows(found: Sequence[Results]) -> Rows:
    """The curves to draw, a panel for each word of the run with fewest, and one for the mean.

    A run without a panel's word is drawn as the mean of its words, over the band of all of them.
    """
    curves = {each.place.name: g for each in found if (g := curves_of(each))}
    rows: Rows = []
    for word in [*min(curves.values(), key=len, default={}), "mean"]:
        for name, g in curves.items():
            drawn = np.stack([g[word]] if word in g else [*g.values()])
            lines = np.linspace(0, 1, drawn.shape[1]), drawn.mean(axis=0), drawn.min(axis=0), drawn.max(axis=0)
            for depth, *values in zip(*(line.tolist() for line in lines), strict=True):
                rows.append(
                    {"word": word, "revision": name, "depth": depth}
                    | {"g": values[0], "low": values[1], "high": values[2]}
                )
    return rows


def table(found: Sequence[Results], comparisons: Rows) -> str:
    """The headline figures, a line each and a column a run; then how alike g is; then what is not compared."""
    figures = [headlines_of(each) for each in found]
    keys = dict.fromkeys(key for each in figures for key in each)
    rows = [(key, *(_cell(each.get(key)) for each in figures)) for key in keys]
    parts = [
        [f"{each.place.name}: {each.about}" for each in found],
        columns(("", *(each.place.name for each in found)), rows),
        [said for row in comparisons if (said := _alike(row))],
        [f"{each.place.name}: {said}" for each in found for said in each.refused.values()],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else number(value)


def _alike(row: Mapping[str, Any]) -> str | None:
    """How alike two runs' g are: the means over shared words, or one run's word and the other's mean."""
    if "inside" in row:
        return (
            f"{row['first']}'s {row['word']} against the mean of {row['second']}'s words: correlation of g "
            f"{number(row['correlation'])}; {number(100 * row['inside'])} % of depths inside their band"
        )
    if row["word"] != "mean":
        return None
    r, rmse = (interval(*(row[f"{name}{end}"] for end in ("", "_low", "_high"))) for name in ("correlation", "rmse"))
    return f"{row['first']} against {row['second']}: correlation of the mean g {r}, RMSE {rmse}"

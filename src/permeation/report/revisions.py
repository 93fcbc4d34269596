"""The headline figures and curves of two or more revisions or folders of results, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.meaning.likeness import compare_curves, compare_means, correlation, on_grid
from permeation.report.axes import AXES, MEANING, headlines
from permeation.report.results import Results
from permeation.report.sections import columns, interval, number, share

GRID_POINTS = 101
RESAMPLES = 2000
STRONG = {"strong_A": 1.0, "strong_B": -1.0}
Rows = list[dict[str, Any]]
Curves = dict[str, Float[np.ndarray, "layers"]]  # by word


def headlines_of(results: Results) -> dict[str, Any]:
    """The headline figures of the axes that are shown, by dotted key."""
    shown = [headlines(axis, results.metrics) for axis in AXES if axis.name in results.runs]
    return {key: value for figures in shown for key, value in figures.items()}


def curves_of(results: Results) -> dict[str, Curves]:
    """g and the difference of σ between the strong contexts, each by word, one value a layer."""
    read = results.place.json if MEANING.name in results.runs else lambda _: None
    g = [(row["word"], row["depth"], row["g"]) for row in read("plots/meaning/g.json") or () if row["kind"] == "word"]
    sigma = [
        (row["word"], row["depth"], STRONG[row["condition"]] * row["sigma"])
        for row in read("plots/meaning/sigma.json") or ()
        if row["condition"] in STRONG
    ]
    found: dict[str, Curves] = {}
    for name, points in (("g", g), ("σ(strong A) − σ(strong B)", sigma)):
        words: dict[str, dict[float, float]] = {}
        for word, depth, value in points:
            curve = words.setdefault(word, {})
            curve[depth] = curve.get(depth, 0.0) + value
        found[name] = {word: np.array([*curve.values()]) for word, curve in words.items()}
    return found


def compare_all(found: Sequence[Results], seed: int) -> Rows:
    """How alike the curves of every two runs are: a record for each word that both have, and one for the mean.

    Where they share none, each word of the run with fewer words is compared with the mean of the other run's words;
    `inside` is the share of depths at which it lies between their lowest and highest curve.
    """
    records: Rows = []
    for one, other in combinations([(each.place.name, curves_of(each)) for each in found], 2):
        for of in one[1]:
            a, b = sorted([(one[0], one[1][of]), (other[0], other[1][of])], key=lambda each: len(each[1]))
            if a[1]:
                records += [{"of": of, "first": a[0], "second": b[0]} | row for row in _compare(a[1], b[1], seed)]
    return records


def _compare(first: Curves, second: Curves, seed: int) -> Rows:
    shared = [word for word in first if word in second]
    x, y = (on_grid(np.stack([curves[word] for word in shared or curves]), GRID_POINTS) for curves in (first, second))
    if shared:
        mean = compare_means(x, y, RESAMPLES, np.random.default_rng(seed))
        rows = [{"word": word} | compare_curves(*pair) for word, *pair in zip(shared, x, y, strict=True)]
        return [*rows, {"word": "mean"} | mean]
    low, high = y.min(axis=0), y.max(axis=0)
    alike = [
        (float(correlation(curve, y.mean(axis=0))), float(((low <= curve) & (curve <= high)).mean())) for curve in x
    ]
    return [{"word": word, "correlation": r, "inside": part} for word, (r, part) in zip(first, alike, strict=True)]


def curve_rows(found: Sequence[Results], comparisons: Rows) -> Rows:
    """The curves to draw: a panel for each comparison of the first two runs that have any.

    A run without a panel's word is drawn as the mean of its words, over the band of all of them.
    """
    rows: Rows = []
    pair = [(row["first"], row["second"]) for row in comparisons][:1]
    for each in (row for row in comparisons if (row["first"], row["second"]) in pair):
        of, word = each["of"], each["word"]
        panel = f"{word}: {of}, r = {number(each['correlation'])}"
        for name, curves in ((run.place.name, curves_of(run)[of]) for run in found):
            if curves:
                drawn = np.stack([curves[word]] if word in curves else [*curves.values()])
                lines = np.linspace(0, 1, drawn.shape[1]), drawn.mean(axis=0), drawn.min(axis=0), drawn.max(axis=0)
                keys = ("depth", "value", "low", "high")
                points = (dict(zip(keys, point, strict=True)) for point in np.stack(lines).T.tolist())
                rows += [{"panel": panel, "revision": name} | point for point in points]
    return rows


def table(found: Sequence[Results], comparisons: Rows) -> str:
    """The headline figures, a line each and a column a run; then how alike curves are; then what is not compared."""
    figures = [headlines_of(each) for each in found]
    keys = dict.fromkeys(key for each in figures for key in each)
    cells = [[each.get(key) for each in figures] for key in keys]
    rows = [(key, *(x if isinstance(x, str) else number(x) for x in row)) for key, row in zip(keys, cells, strict=True)]
    parts = [
        [f"{each.place.name}: {each.about}" for each in found],
        columns(("", *(each.place.name for each in found)), rows),
        [_alike(row) for row in comparisons if "inside" in row or row["word"] == "mean"],
        [f"{each.place.name}: {said}" for each in found for said in each.refused.values()],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _alike(row: Mapping[str, Any]) -> str:
    """How alike two runs' curves are: the means over shared words, or one run's word and the other's mean."""
    if "inside" in row:
        return (
            f"{row['first']}'s {row['word']} against the mean of {row['second']}'s words: correlation of {row['of']} "
            f"{number(row['correlation'])}; {share(row['inside'])} of depths inside their band"
        )
    r, rmse = (interval(*(row[f"{name}{end}"] for end in ("", "_low", "_high"))) for name in ("correlation", "rmse"))
    return f"{row['first']} against {row['second']}: correlation of the mean {row['of']} {r}, RMSE {rmse}"

"""The headline figures and g of two or more revisions or folders of results, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
Curves = Mapping[str, Float[np.ndarray, "layers"]]


@dataclass(frozen=True)
class Revision:
    """What is compared of a place.

    Attributes:
        results: what can be shown of it. headlines: by dotted key.
        g: word to curve; empty where the meaning axis is not shown.
    """

    results: Results
    headlines: dict[str, Any]
    g: Curves

    @classmethod
    def of(cls, results: Results) -> Revision:
        """The headlines and the curves of results."""
        shown = [axis for axis in AXES if axis.name in results.runs]
        rows = results.place.json("plots/meaning/g.json") if MEANING in shown else None
        figures = {key: value for axis in shown for key, value in flat(headlines(axis, results.metrics)).items()}
        return cls(results, figures, curves_of(rows or ()))

    @property
    def name(self) -> str:
        """As on the command line."""
        return self.results.place.name


def curves_of(rows: Iterable[Mapping[str, Any]]) -> Curves:
    """Word to g, one value a layer, from the rows of plots/meaning/g.json."""
    curves: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == "word":
            curves.setdefault(row["word"], []).append(row["g"])
    return {word: np.array(curve) for word, curve in curves.items()}


def compare_g(revisions: Sequence[Revision], seed: int) -> list[dict[str, Any]]:
    """How alike g is, for every two revisions: a record a word, and one for the mean, of the words that both have.

    Where they share none, each word of the run with fewer words is compared with the mean of the other run's words;
    `inside` is the share of depths at which it lies between their lowest and highest curve.
    """
    found: list[dict[str, Any]] = []
    for one, other in combinations([each for each in revisions if each.g], 2):
        shared = [word for word in one.g if word in other.g]
        first, second = (one, other) if shared or len(one.g) <= len(other.g) else (other, one)
        x, y = (on_grid(np.stack([each.g[word] for word in shared or each.g]), GRID_POINTS) for each in (first, second))
        names = {"first": first.name, "second": second.name}
        if shared:
            pairs = zip(shared, x, y, strict=True)
            found += [names | {"word": word} | asdict(compare_curves(*pair)) for word, *pair in pairs]
            mean = compare_means(x, y, RESAMPLES, np.random.default_rng(seed))
            found.append(names | {"word": "mean"} | asdict(mean))
        else:
            for word, curve in zip(first.g, x, strict=True):
                inside = float(((y.min(axis=0) <= curve) & (curve <= y.max(axis=0))).mean())
                alike = float(correlation(curve, y.mean(axis=0)))
                found.append(names | {"word": word, "correlation": alike, "inside": inside})
    return found


def curve_rows(revisions: Sequence[Revision]) -> list[dict[str, Any]]:
    """The curves to draw, a panel for each word of the first revision that has fewest words, and one for the mean.

    A revision without a panel's word is drawn as the mean of its words, over the band of all of them.
    """
    with_g = [each for each in revisions if each.g]
    words = min((each.g for each in with_g), key=len, default={})
    rows: list[dict[str, Any]] = []
    for word in [*words, "mean"]:
        for each in with_g:
            curves = np.stack([each.g[word]] if word in each.g else [*each.g.values()])
            lines = [np.linspace(0, 1, curves.shape[1]), curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0)]
            for depth, g, low, high in zip(*(line.tolist() for line in lines), strict=True):
                rows.append({"word": word, "revision": each.name, "depth": depth, "g": g, "low": low, "high": high})
    return rows


def table(revisions: Sequence[Revision], comparisons: Sequence[Mapping[str, Any]]) -> str:
    """The headline figures, a line each and a column a revision; then how alike g is; then what is not compared."""
    keys = dict.fromkeys(key for each in revisions for key in each.headlines)
    rows = [(key, *(figure(each.headlines.get(key)) for each in revisions)) for key in keys]
    parts = ["\n".join(f"{each.name}: {each.results.about}" for each in revisions)]
    parts.append("\n".join(columns(("", *(each.name for each in revisions)), rows)))
    alike = [said for row in comparisons if (said := _alike(row))]
    refused = [f"{each.name}: {said}" for each in revisions for said in each.results.refused.values()]
    return "\n\n".join([*parts, *("\n".join(lines) for lines in (alike, refused) if lines)]) + "\n"


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


def figure(value: Any) -> str:
    """A headline figure as text; a dash where there is none."""
    return number(value) if isinstance(value, float) else "–" if value is None else str(value)

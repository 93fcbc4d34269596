"""The headline figures and curves of two or more revisions or folders of results, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.meaning.likeness import compare_means, correlation, on_grid
from permeation.report.axes import AXES, MEANING, flat, headlines
from permeation.report.draw import groups
from permeation.report.results import Results
from permeation.report.sections import ENDS, columns, interval, number

GRID_POINTS = 101
RESAMPLES = 2000
Records = list[dict[str, Any]]
Curves = dict[str, Float[np.ndarray, "layers"]]  # by word


def headlines_of(results: Results) -> dict[str, Any]:
    """The headline figures of the axes that are shown, by dotted key."""
    return {key: value for name in results.runs for key, value in headlines(AXES[name], results.metrics).items()}


def curves_of(results: Results) -> dict[str, Curves]:
    """g and the difference of σ between the strong contexts, each by word, one value a layer."""

    def curves(table: str, **wanted: str) -> Curves:
        rows = results.place.json(f"plots/meaning/{table}.json") if MEANING.name in results.runs else None
        rows = [row for row in rows or () if row.items() >= wanted.items()]
        return {word: np.array([row[table] for row in own]) for word, own in groups(rows, "word").items()}

    a, b = (curves("sigma", condition=condition) for condition in ("strong_A", "strong_B"))
    return {"g": curves("g", kind="word"), "σ(strong A) − σ(strong B)": {word: a[word] - b[word] for word in a}}


def compare_all(found: Sequence[Results], seed: int) -> Records:
    """How alike the curves of every two runs are: a record for each word, and one for the mean of those that both have.

    Where a run has words that the other lacks, they alone are compared, with the mean of the other run's (`alone`).
    """
    return [
        {"of": of, "first": first, "second": second} | row
        for (first, its), (second, others) in combinations([(each.place.name, curves_of(each)) for each in found], 2)
        for of in its
        if its[of] and others[of]
        for row in _compare(its[of], others[of], seed=seed)
    ]


def _compare(*runs: Curves, seed: int) -> Records:
    first, second = (dict(zip(run, on_grid(np.stack([*run.values()]), GRID_POINTS), strict=True)) for run in runs)
    shared, rows = [word for word in first if word in second], Records()
    own = [(a, b, [word for word in a if word not in b]) for a, b in ((first, second), (second, first))]
    if alone := [each for each in own if each[2]]:
        mine, others, new = min(alone, key=lambda each: len(each[2]))
        r = correlation(np.stack([mine[word] for word in new]), np.mean([*others.values()], axis=0)[None])
        rows = [{"word": word, "alone": True, "correlation": each} for word, each in zip(new, r.tolist(), strict=True)]
    if shared:
        x, y = (np.stack([curves[word] for word in shared]) for curves in (first, second))
        pairs = zip(shared, correlation(x, y).tolist(), strict=True)
        rows = rows or [{"word": word, "correlation": r} for word, r in pairs]
        rows.append({"word": "mean"} | compare_means(x, y, RESAMPLES, np.random.default_rng(seed)))
    return rows


def curve_rows(found: Sequence[Results], comparisons: Records) -> Records:
    """The curves to draw: a panel for each comparison of the first two runs that have any.

    A run without a panel's word is drawn as the mean of its words, over the band of all of them.
    """
    rows: Records = []
    runs = [(run.place.name, curves_of(run)) for run in found]
    both = itemgetter("first", "second")
    for each in (record for record in comparisons if both(record) == both(comparisons[0])):
        panel = f"{each['word']}: {each['of']}, r = {number(each['correlation'])}"
        for name, curves in ((name, curves[each["of"]]) for name, curves in runs if curves[each["of"]]):
            drawn = np.stack([curves[each["word"]]] if each["word"] in curves else [*curves.values()])
            name += f", mean of {len(drawn)} words" * (len(drawn) > 1)
            lines = np.linspace(0, 1, drawn.shape[1]), drawn.mean(axis=0), drawn.min(axis=0), drawn.max(axis=0)
            keys = {"panel": panel, "revision": name}
            rows += [keys | dict(zip(("depth", "value", "low", "high"), at, strict=True)) for at in np.stack(lines).T]
    return rows


def table(found: Sequence[Results], comparisons: Records) -> str:
    """Headline figures with intervals, a line each and a column a run; how alike curves are; what is not compared."""
    figures = [flat(each.metrics) for each in found]
    rows = [(key, *(_cell(each, key) for each in figures)) for key in dict.fromkeys(chain(*map(headlines_of, found)))]
    settings = [flat(each.parameters) for each in found]
    shared = [key for key in settings[0] if all(key in each for each in settings)]
    parts = [
        [f"{each.place.name}: {each.about}" for each in found],
        [f"{key}: {' | '.join(values)}" for key in shared if len({*(values := [str(s[key]) for s in settings])}) > 1],
        columns([("", *(each.place.name for each in found)), *rows]),
        [_alike(row) for row in comparisons if row["word"] == "mean" or "alone" in row],
        [f"{each.place.name}: {said}" for each in found for said in each.refused.values()],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _cell(figures: Mapping[str, Any], key: str) -> str:
    """A figure with its interval, whose ends are called <key>_low, <keys>_low.<last key> or <keys>.low."""
    keys, _, last = key.rpartition(".")
    value = figures.get(key)
    for front, back in ((f"{key}_", ""), (f"{keys}_", f".{last}"), (f"{keys}.", "")):
        low, high = (figures.get(f"{front}{end}{back}") for end in ("low", "high"))
        if low is not None:
            return interval(value, low, high)
    return value if isinstance(value, str) else number(value)


def _alike(row: Mapping[str, Any]) -> str:
    """How alike two runs' mean curves are, or one run's word and the other's mean."""
    what = f"the mean {row['of']}" if row["word"] == "mean" else f"{row['word']}'s {row['of']} with the other's mean"
    r = interval(*(row.get(f"correlation{end}") for end in ENDS))
    return f"{row['first']} against {row['second']}: correlation of {what} {r}"

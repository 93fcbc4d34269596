"""The headline figures and g of two or more revisions or folders of results, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.frame.asked import flat
from permeation.meaning.likeness import Likeness, compare_curves, compare_means, on_grid
from permeation.report.asking import results_at
from permeation.report.axes import AXES, HEADS, MEANING
from permeation.report.results import Place, Results
from permeation.report.sections import columns

GRID_POINTS = 101
RESAMPLES = 2000


@dataclass(frozen=True)
class Revision:
    """What is compared of a revision or a folder of results.

    Attributes:
        results: what can be shown of it.
        headlines: the headline figures of its axes, by dotted key.
        g: word to curve, one value a layer; empty where the meaning axis is not shown.
    """

    results: Results
    headlines: dict[str, Any]
    g: dict[str, Float[np.ndarray, "layers"]]

    @classmethod
    def read(cls, project: Path, name: str) -> Revision:
        """Read a revision of the project, or a folder; raises PermeationError where it holds no results."""
        place = Place.find(project, name)
        results = results_at(place)
        figures: dict[str, Any] = {}
        for axis in (*AXES, HEADS):
            if axis.name in results.runs:
                figures |= flat(place.json(f"metrics/{axis.name}.json") or {})
        rows = place.json("plots/meaning/g.json") if MEANING.name in results.runs else None
        return cls(results, figures, curves_of(rows or ()))

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self.results.place.name

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.results.model["name"])


@dataclass(frozen=True)
class RevisionPair:
    """Two revisions, word by word and in the mean over the words they share."""

    first: Revision
    second: Revision
    words: dict[str, Likeness]
    mean: Likeness

    @classmethod
    def between(cls, first: Revision, second: Revision, seed: int) -> RevisionPair:
        """Compare two revisions that share a word."""
        return cls(first, second, *compare_words(first.g, second.g, seed))


def curves_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Float[np.ndarray, "layers"]]:
    """Word to g, one value a layer, from the rows of plots/meaning/g.json."""
    curves: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == "word":
            curves.setdefault(row["word"], []).append(row["g"])
    return {word: np.array(curve) for word, curve in curves.items()}


def compare_words(
    first: Mapping[str, Float[np.ndarray, "layers"]], second: Mapping[str, Float[np.ndarray, "_layers"]], seed: int
) -> tuple[dict[str, Likeness], Likeness]:
    """How alike g is, of each word that both have and of their means."""
    shared = [word for word in first if word in second]
    x, y = (on_grid(np.stack([each[word] for word in shared]), GRID_POINTS) for each in (first, second))
    words = {word: compare_curves(*pair) for word, *pair in zip(shared, x, y, strict=True)}
    return words, compare_means(x, y, RESAMPLES, np.random.default_rng(seed))


def read_revisions(project: Path, names: Sequence[str]) -> list[Revision]:
    """The revisions, in the order given."""
    return [Revision.read(project, name) for name in names]


def compare_g(revisions: Sequence[Revision], seed: int) -> list[RevisionPair]:
    """Every pair of the revisions that have g of a word in common, in the order given."""
    pairs = combinations([each for each in revisions if each.g], 2)
    return [RevisionPair.between(*pair, seed) for pair in pairs if pair[0].g.keys() & pair[1].g.keys()]


def apart(revisions: Sequence[Revision]) -> list[str]:
    """Which pairs have g and no word in common, in words."""
    pairs = combinations([each for each in revisions if each.g], 2)
    return [
        f"{one.name} and {other.name} have no word in common: their g are not compared"
        for one, other in pairs
        if not one.g.keys() & other.g.keys()
    ]


def headline_table(revisions: Sequence[Revision]) -> str:
    """All headline figures, a line each and a column a revision; then what is not compared, and why."""
    keys = list(dict.fromkeys(key for each in revisions for key in each.headlines))
    rows = [(key, *(figure(each.headlines.get(key)) for each in revisions)) for key in keys]
    refused = [f"{each.name}: {said}" for each in revisions for said in each.results.refused.values()]
    refused += apart(revisions)
    runs = [f"{each.name}: {each.results.about}" for each in revisions]
    return "\n".join([*runs, "", *columns(("", *(each.name for each in revisions)), rows), "", *refused]) + "\n"


def figure(value: Any) -> str:
    """A headline figure as text; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def table(comparisons: Sequence[RevisionPair]) -> str:
    """g of every pair as text, a line per word and one for the mean."""
    lines = [f"g on {GRID_POINTS} depths l/L, linear between layers; 95 % intervals from drawing words"]
    for each in comparisons:
        lines += ["", f"{title(each.first)}  against  {title(each.second)}", f"  {'':10} {'correlation':<24} RMSE"]
        for word, likeness in (each.words | {"mean": each.mean}).items():
            r = _with_interval(likeness.correlation, likeness.correlation_low, likeness.correlation_high)
            lines.append(f"  {word:10} {r:<24} {_with_interval(likeness.rmse, likeness.rmse_low, likeness.rmse_high)}")
    return "\n".join(lines) + "\n"


def records(comparisons: Sequence[RevisionPair]) -> list[dict[str, Any]]:
    """The comparisons as JSON objects, one per pair of revisions and word (and `mean`)."""
    return [
        {"first": each.first.name, "second": each.second.name}
        | {"first_model": each.first.model, "second_model": each.second.model, "word": word}
        | asdict(likeness)
        for each in comparisons
        for word, likeness in (each.words | {"mean": each.mean}).items()
    ]


def curve_rows(comparisons: Sequence[RevisionPair]) -> list[dict[str, Any]]:
    """Each revision's g per word and layer, and its mean, for the figure."""
    revisions = {each.name: each for pair in comparisons for each in (pair.first, pair.second)}
    return [
        {"revision": title(revision), "word": word, "depth": x, "g": float(y)}
        for revision in revisions.values()
        for word, curve in (revision.g | {"mean": np.mean(list(revision.g.values()), axis=0)}).items()
        for x, y in zip(np.linspace(0, 1, len(curve)), curve, strict=True)
    ]


def title(revision: Revision) -> str:
    """How a revision is called in print."""
    return f"{revision.name} ({revision.model})"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f}  [{low:.4f}, {high:.4f}]"

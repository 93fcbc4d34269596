"""What compressed models keep of the sense, beside what they keep of the perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from permeation.frame.errors import PermeationError
from permeation.heads.sense import MEASURES, Sense
from permeation.meaning.bootstrap import resample_words
from permeation.meaning.seeds import named_generator
from permeation.perplexity.ratio import KEPT_RATIO

LOST_RATIO = 1.25  # from this ratio on a model counts as harmed


def near(rows: Sequence[Mapping[str, Any]], ratios: Sequence[float], methods: int) -> list[Mapping[str, Any]]:
    """Of the rivals' rows those to be looked at: at each ratio the nearest one of each of the nearest methods.

    Near in |log ratio|; a row is taken once; in the order of the rows. Raises PermeationError where none is measured.
    """
    measured = [row for row in rows if row["ratio"] is not None]
    if not measured:
        raise PermeationError("none of the rivals was measured; accepted: one size of one method at least")
    taken: set[int] = set()
    for ratio in ratios:
        nearest: dict[str, int] = {}
        for i in sorted(range(len(measured)), key=lambda i: abs(np.log(measured[i]["ratio"] / ratio))):
            nearest.setdefault(measured[i]["method"], i)
        taken |= set(list(nearest.values())[:methods])
    return [measured[i] for i in sorted(taken)]


@dataclass(frozen=True)
class KeptSense:
    """The compressed models' sense over the untouched one's, paired over words.

    Attributes:
        untouched: the model as it is. compressed: by row of the rivals (method, size, ratio, low, high), its sense.
        resamples, seed: of the words, for the intervals.
    """

    untouched: Sense
    compressed: Sequence[tuple[Mapping[str, Any], Sense]]
    resamples: int
    seed: int

    def rows(self) -> list[dict[str, Any]]:
        """A row for each compressed model and measure, for plots/compressed.json.

        kept: Σ_w m_w / Σ_w m⁰_w; 1 where all of the sense is left. kept_low, kept_high: the middle 95 % of resampled
        words. None where the untouched model has none of it.
        """
        words = len(self.untouched.words)
        weights = resample_words(words, self.resamples, named_generator(self.seed, "compressed words"))
        rows = []
        for row, sense in self.compressed:
            for measure in MEASURES:
                own, before = (getattr(each, measure) for each in (sense, self.untouched))
                whole = before.sum()
                drawn = weights @ before
                known = whole > 0 and (drawn > 0).all()
                low, high = np.quantile((weights @ own) / drawn, (0.025, 0.975)) if known else (None, None)
                rows.append(
                    {key: row[key] for key in ("method", "size", "ratio", "low", "high")}
                    | {"measure": measure, "kept": float(own.sum() / whole) if known else None}
                    | {"kept_low": _number(low), "kept_high": _number(high)}
                )
        return rows

    def summary(self) -> dict[str, Any]:
        """models: how many. untouched: the words' means of each measure.

        By measure: least_within_5: the model that keeps least among those with a ratio of at most 1.05;
        most_beyond_25: the one that keeps most among those of 1.25 and more; rank: Spearman's ρ of what is kept with
        the ratio over all models. None where there is no such model.
        """
        rows = [row for row in self.rows() if row["kept"] is not None]
        found: dict[str, Any] = {
            "models": len(self.compressed),
            "untouched": {measure: float(getattr(self.untouched, measure).mean()) for measure in MEASURES},
        }
        for measure in MEASURES:
            own = [row for row in rows if row["measure"] == measure]
            found[measure] = {
                "least_within_5": _one(min, [row for row in own if row["ratio"] <= KEPT_RATIO]),
                "most_beyond_25": _one(max, [row for row in own if row["ratio"] >= LOST_RATIO]),
                "rank": _rank([row["ratio"] for row in own], [row["kept"] for row in own]),
            }
        return found


def _one(choose: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not rows:
        return None
    row = choose(rows, key=lambda row: row["kept"])
    named = {"kept": "kept", "low": "kept_low", "high": "kept_high", "ratio": "ratio"}
    return {"method": f"{row['method']} {row['size']}"} | {name: row[key] for name, key in named.items()}


def _rank(x: Sequence[float], y: Sequence[float]) -> float | None:
    if len(set(x)) < 3 or len(set(y)) < 2:
        return None
    return float(stats.spearmanr(x, y).statistic)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)

"""σ split into sense and drift, beside the null models: what the stage `nulls` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.meaning.factors import WordFactors, WordResiduals, factorise_words, real_sigmas
from permeation.meaning.nulls import Sigmas, common_and_sense, draw_null, excess, lasting_depth, null_names

QUANTILES = (0.025, 0.5, 0.975)
# The null models whose σ the tables show word by word: the test, and the one without sense in the direction.
SHOWN = ("senses_shuffled", "within_senses")
# What the metrics have of every null model.
HEADLINES = ("word_correlation_mean", "decomposition_r2_drift_out")


@dataclass(frozen=True)
class Drift:
    """The words' σ and that of the null models.

    Attributes:
        words: what σ is made from. sigma: of the words, a single draw. real: their factors.
        shown: σ of the null models in SHOWN. factors: the factors of every null model.
    """

    words: Mapping[str, WordResiduals]
    sigma: list[Float[np.ndarray, "1 folds _prompts layers"]]
    real: WordFactors
    shown: Mapping[str, Sigmas]
    factors: Mapping[str, WordFactors]

    def summary(self, exclude_final: int) -> dict[str, Any]:
        """null: the median of each headline in each null model. excess_final: at the last layer, mean over words.
        sense_depth: from which depth on the sense part stays above 97.5 % of the shuffles, median over words (a word
        for which it never does counts as beyond the last layer; null where the median is such).
        """
        null = {}
        for name, factors in self.factors.items():
            statistics = factors.statistics(exclude_final)
            null[name] = {key: float(np.median(statistics[key])) for key in HEADLINES if key in statistics}
        excesses, depths = [], []
        for i, word in enumerate(self.words.values()):
            (sense,), shuffled, senseless = (
                common_and_sense(word, sigma)[1] for sigma in (self.sigma[i], self._shown(0, i), self._shown(1, i))
            )
            excesses.append(excess(sense, senseless)[-1])
            depth = lasting_depth(sense > np.quantile(shuffled, QUANTILES[2], axis=0))
            depths.append(np.inf if depth is None else depth)
        middle = float(np.median(depths))
        return {
            "null": null,
            "excess_final": float(np.mean(excesses)),
            "sense_depth": middle if np.isfinite(middle) else None,
        }

    def null_rows(self) -> list[dict[str, Any]]:
        """The words' mean g, and the median and the middle 95 % of what each null model gives, for plots/nulls.json."""
        (mean,) = self.real.factors.mean_g
        unknown = [None] * len(mean)
        curves: list[tuple[str, Any, Any, Any]] = [("words", mean, unknown, unknown)]
        for name, factors in self.factors.items():
            low, middle, high = np.quantile(factors.factors.mean_g, QUANTILES, axis=0)
            curves.append((name, middle, low, high))
        return [
            {"panel": name, "series": "g", "depth": x, "value": y, "low": low, "high": high}
            for name, *columns in curves
            for x, y, low, high in zip(np.linspace(0, 1, len(mean)), *columns, strict=True)
        ]

    def part_rows(self) -> list[dict[str, Any]]:
        """The common and the sense part of σ, the sense part in the shown null models, and the excess over the one
        without sense, per word and layer, for plots/meaning.json.
        """
        rows: list[dict[str, Any]] = []
        for i, (name, word) in enumerate(self.words.items()):
            (common,), (sense,) = common_and_sense(word, self.sigma[i])
            nulls = [common_and_sense(word, self._shown(k, i))[1] for k in range(len(SHOWN))]
            unknown = [None] * len(sense)
            parts: dict[str, Sequence[Any]] = {
                "common": (common, unknown, unknown),
                "sense": (sense, unknown, unknown),
                "excess": (excess(sense, nulls[1]), unknown, unknown),
            }
            for null, drawn in zip(SHOWN, nulls, strict=True):
                low, middle, high = np.quantile(drawn, QUANTILES, axis=0)
                parts[null] = (middle, low, high)
            rows += [
                {"word": name, "depth": x, "part": part, "value": y, "low": low, "high": high}
                for part, columns in parts.items()
                for x, y, low, high in zip(np.linspace(0, 1, len(sense)), *columns, strict=True)
            ]
        return rows

    def _shown(self, null: int, word: int) -> Float[np.ndarray, "draws folds prompts layers"]:
        return self.shown[SHOWN[null]][word]


def measure_drift(words: Mapping[str, WordResiduals], field: str, draws: int, seed: int) -> Drift:
    """The words' σ and factors, and those of `draws` draws of every null model."""
    parts = list(words.values())
    sigma = real_sigmas(parts, field)
    shown, factors = {}, {}
    for name in null_names(len(parts)):
        drawn = draw_null(name, parts, field, draws, seed)
        factors[name] = factorise_words(parts, drawn, field)
        if name in SHOWN:
            shown[name] = drawn
    return Drift(words, sigma, factorise_words(parts, sigma, field), shown, factors)

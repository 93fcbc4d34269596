"""What g is: its figures beside null models, with another h, before the word, from halves, and predicted from geometry.

p = (1 + shuffles at least as extreme) / (1 + shuffles). docs/meaning.md, p-values, says which statistic is the primary
one; the others are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.frame import progress
from permeation.meaning.activations import Activations
from permeation.meaning.bootstrap import interval
from permeation.meaning.decode import DIRECTIONS, TESTS, DecodedWords, decode_words
from permeation.meaning.factors import FIELDS, Factors, factorise, factorise_words, word_residuals
from permeation.meaning.nulls import NULLS, draw_null
from permeation.meaning.reliability import (
    Reliability,
    agreement,
    identified,
    measure_reliability,
    own_and_others,
    predicted_shape,
)

SHUFFLE = "senses_shuffled"  # the one null model that is an exact permutation test
PRIMARY = "reliability"  # that of h = rank
# Tested besides the primary statistic, with Holm's correction over these and the tests of decoding: the figure, and
# what it is called after null_ and p_.
SECONDARY = {
    "word_correlation_mean": "correlation_mean",
    "increment_correlation_mean": "increment_correlation",
    "decomposition_r2_drift_out": "r2_drift_out",
    "f_max_mean": "f_max_mean",
    "decomposition_r2": "r2",
    "alpha": "alpha",
    "separation_mean": "separation_mean",
}
OF_FINAL_ALONE = ("decomposition_r2", "alpha", "separation_mean")
TWO_SIDED = ("alpha",)  # a sense should make all others large
DEPTHS = (1 / 6, 1 / 3, 2 / 3, 1)  # at which the AUC before the word stands in the metrics


def permutation_p(real: float, null: Float[np.ndarray, "draws"], two_sided: bool = False) -> float:
    """(1 + draws at least as large) / (1 + draws), which is exact (Phipson and Smyth, 2010).

    Two-sided: twice the smaller of the two tails.
    """
    above, below = (1 + np.sum(null >= real)) / (1 + len(null)), (1 + np.sum(null <= real)) / (1 + len(null))
    return float(min(1.0, 2 * min(above, below)) if two_sided else above)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) step-down correction: the i-th smallest of n, times n − i + 1, and no smaller than the one before.

    Where all n nulls hold, the chance that any corrected p is at most α is at most α, however the tests depend.
    """
    corrected, at_least = {}, 0.0
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        at_least = max(at_least, min(1.0, (len(p) - i) * p[name]))
        corrected[name] = at_least
    return {name: corrected[name] for name in p}


@dataclass(frozen=True)
class Controls:
    """What the controls gave.

    Attributes:
        field: response.field.
        tested: by h and figure, its value and that of the shuffles that test it.
        mean_g: of the words, by h. shuffled_g: of each shuffle, with h = rank.
        nulls: the factors of every null model, with h = field. exclude_final: of their exponent.
        before: the figures at the token before the word, h = rank.
        decoded: every test along every direction, by name. decoded_before: gradient_own before the word.
        reliability: by h; None where there are not two words to compare.
        g, predicted: of each word g with h = final, and g̃.
    """

    field: str
    tested: Mapping[str, Mapping[str, tuple[float, Float[np.ndarray, "draws"]]]]
    mean_g: Mapping[str, Float[np.ndarray, "layers"]]
    shuffled_g: Float[np.ndarray, "draws layers"]
    nulls: Mapping[str, Factors]
    exclude_final: int
    before: Mapping[str, Any]
    decoded: Mapping[str, DecodedWords]
    decoded_before: DecodedWords
    reliability: Mapping[str, Reliability | None]
    g: Float[np.ndarray, "words layers"]
    predicted: Float[np.ndarray, "words layers"]

    def summary(self, resamples: int, seed: int) -> dict[str, Any]:
        """For metrics/g.json. final, rank: of each figure its value, its mean over shuffles (null_…; of alpha the
        median) and its p after Holm (p_…). null_… outside these groups: with h = response.field.

        null: medians in each null model. predicted: how well g̃ fits a word's own g, and other words' (h = final).
        What compares words is null or left out where there is one word only.
        """
        p, own = self.p_values(), self.tested[self.field]
        groups: dict[str, dict[str, Any]] = {field: {} for field in self.tested}
        for field, figures in self.tested.items():
            for name, (value, null) in figures.items():
                middle = float(np.median(null) if name == "alpha" else null.mean())
                groups[field] |= {name: value, f"null_{SECONDARY[name]}": middle}
                groups[field] |= {f"p_{SECONDARY[name]}": p[f"{field}.{name}"]} if f"{field}.{name}" in p else {}
        found: dict[str, Any] = {"null_correlation_mean": None}
        found |= {name: value for name, value in groups[self.field].items() if name.startswith("null_")}
        for name in (name for name in ("word_correlation_mean", "alpha") if name in own):
            short = SECONDARY[name].removesuffix("_mean")
            found[f"null_{short}_low"], found[f"null_{short}_high"] = map(float, interval(own[name][1]))
        C = agreement(self.predicted, self.g)
        found |= groups | {
            "null": {name: self._medians(factors) for name, factors in self.nulls.items()},
            "predicted_correlation_min": float(C.diagonal().min()),
            "before": {
                "rank_correlation_mean": self.before.get("word_correlation_mean"),
                "separation_mean": self.before["separation_mean"],
            },
            "auc_at_word": self._at_depths(self.decoded["gradient_own"]),
            "auc_before": self._at_depths(self.decoded_before),
            "p": p,
        }
        rank, final = (self.reliability[field] for field in ("rank", "final"))
        if rank and final:
            fit, others = own_and_others(C, np.ones(len(C)))
            found["predicted"] = {"own": float(fit), "others": float(others), "identified": identified(C)}
            found["reliability"] = rank.summary(resamples, seed) | {"final": final.summary(resamples, seed)}
        return found

    def p_values(self) -> dict[str, float]:
        """The primary statistic's p as it is, the others' after Holm; without those that need a second word."""
        raw = {
            f"{field}.{name}": permutation_p(value, null, name in TWO_SIDED)
            for field, figures in self.tested.items()
            for name, (value, null) in figures.items()
            if field == "final" or name not in OF_FINAL_ALONE
        }
        raw |= {f"auc.{name}": float(decoded.p[1].min()) for name, decoded in self.decoded.items()}
        primary = self.reliability["rank"]
        return ({PRIMARY: primary.p} if primary else {}) | holm(raw)

    def null_rows(self) -> list[dict[str, Any]]:
        """The words' mean g, and the median and the middle 95 % of what each null model gives, for plots/nulls.json."""
        drawn = {name: factors.mean_g for name, factors in self.nulls.items()}
        curves = {name: (np.median(g, axis=0), *interval(g)) for name, g in drawn.items()}
        return _rows({("words", "g"): (self.mean_g[self.field],)} | {(name, "g"): own for name, own in curves.items()})

    def rows(self) -> list[dict[str, Any]]:
        """Means over words by depth, for plots/controls.json: g by h and predicted, and the AUC by token."""
        at_word, before = self.decoded["gradient_own"], self.decoded_before
        return _rows(
            {
                ("g", "final"): (self.mean_g["final"],),
                ("g", "rank"): (self.mean_g["rank"], *interval(self.shuffled_g)),
                ("g", "predicted"): (self.predicted.mean(axis=0),),
                ("auc", "at_word"): (at_word.mean, *interval(at_word.mean_resampled)),
                ("auc", "before"): (before.mean, *interval(before.mean_resampled)),
            }
        )

    def _medians(self, factors: Factors) -> dict[str, float]:
        statistics = factors.statistics(self.exclude_final)
        names = ("word_correlation_mean", "decomposition_r2_drift_out")
        return {name: float(np.median(statistics[name])) for name in names if name in statistics}

    @staticmethod
    def _at_depths(decoded: DecodedWords) -> dict[str, float]:
        """The mean AUC at the layers of DEPTHS, by layer."""
        layers = [round(depth * (len(decoded.mean) - 1)) for depth in DEPTHS]
        return {str(layer): float(decoded.mean[layer]) for layer in layers}


def run_controls(
    activations: Activations,
    layer: int,
    field: str,
    exclude_final: int,
    draws: int,
    permutations: int,
    resamples: int,
    seed: int,
) -> Controls:
    """All controls; `permutations` behind each p-value, `draws` of the null models that test nothing."""
    words = word_residuals(activations, layer)
    parts = list(words.values())
    tests = [(test, along) for test in TESTS for along in DIRECTIONS]
    decoded = [
        decode_words(activations, layer, test, along, permutations, resamples, seed)
        for test, along in progress.each(tests, "decoding", len(tests))
    ]
    real = {each: factorise_words(words, each) for each in FIELDS}
    shuffled = draw_null(SHUFFLE, parts, permutations, seed)
    nulls = {each: factorise(parts, shuffled, each) for each in FIELDS}
    tested = {}
    for each in FIELDS:
        value, null = (factors[each].statistics(exclude_final) for factors in (real, nulls))
        tested[each] = {name: (float(value[name]), null[name]) for name in SECONDARY if name in value}
    others = [name for name in NULLS if name != SHUFFLE and (len(parts) > 1 or name != "another_word")]
    drawn = {
        name: factorise(parts, draw_null(name, parts, draws, seed), field)
        for name in progress.each(others, "null models", len(others))
    }
    predicted = predicted_shape(activations, layer)
    before = factorise_words(word_residuals(activations, layer, before=True), "rank").statistics(exclude_final)
    return Controls(
        field=field,
        tested=tested,
        mean_g={each: factors.mean_g for each, factors in real.items()},
        shuffled_g=nulls["rank"].mean_g,
        nulls={SHUFFLE: nulls[field], **drawn},
        exclude_final=exclude_final,
        before={name: float(value) for name, value in before.items()},
        decoded={each.name: each for each in decoded},
        decoded_before=decode_words(activations, layer, "gradient", "own", 1, resamples, seed, before=True),
        reliability={each: measure_reliability(words, each, permutations, seed) for each in FIELDS},
        g=real["final"].g,
        predicted=np.stack([predicted[word] for word in words]),
    )


def _rows(curves: Mapping[tuple[str, str], tuple[Any, ...]]) -> list[dict[str, Any]]:
    """A row a layer of each panel's series: its value and, where there are any, its bounds."""
    rows = []
    for (panel, series), (values, *bounds) in curves.items():
        low, high = bounds or [[None] * len(values)] * 2
        rows += [
            {"panel": panel, "series": series, "depth": x, "value": y, "low": down, "high": up}
            for x, y, down, up in zip(np.linspace(0, 1, len(values)), values, low, high, strict=True)
        ]
    return rows

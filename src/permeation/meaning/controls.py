"""What g is: the headline figures again with another h, without drift, before the word, and predicted from geometry.

docs/meaning.md, p-values, says which statistic is the primary one; the others are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.meaning.activations import Activations
from permeation.meaning.decode_words import DecodedWords, decode_words
from permeation.meaning.factors import WordFactors, WordResiduals, factorise_words, real_sigmas, word_residuals
from permeation.meaning.likeness import correlation
from permeation.meaning.nulls import common_and_sense, draw_null, excess
from permeation.meaning.words import SENSES

TEST = "senses_shuffled"  # the one null model that is an exact permutation test
FIELDS = ("final", "rank")
PRIMARY = "rank.word_correlation_mean"
# Tested besides the primary statistic, with Holm's correction over these and the tests of decoding.
SECONDARY = (
    "rank.increment_correlation_mean",
    "rank.decomposition_r2_drift_out",
    "rank.f_max_mean",
    "final.word_correlation_mean",
    "final.increment_correlation_mean",
    "final.decomposition_r2",
    "final.decomposition_r2_drift_out",
    "final.alpha",
    "final.f_max_mean",
    "final.separation_mean",
)
TWO_SIDED = ("alpha",)  # meaning should make all others large
DEPTHS = (1 / 6, 1 / 3, 2 / 3, 1)  # at which the AUC before the word stands in the metrics
QUANTILES = (0.025, 0.975)


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
    corrected, largest = {}, 0.0
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, (len(p) - i) * p[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p}


def predicted_shape(activations: Activations, layer: int) -> dict[str, Float[np.ndarray, "layers"]]:
    """g̃(l) ∝ cos(ê_l, ê) · ‖mean_A(l) − mean_B(l)‖ / mean ‖φ(l)‖, from each word's direction prompts alone.

    ê is the contrast at `layer`. To first order g̃ is the σ of the senses' own contrast: how far it has turned towards
    ê, times its size in units of the residual stream's. It is divided by its largest value.
    """
    found = {}
    for word in activations.words:
        senses = [activations.of(word, "direction", sense).astype(np.float64) for sense in SENSES]
        gap = senses[0].mean(axis=0) - senses[1].mean(axis=0)
        size = np.mean([np.linalg.norm(sense, axis=-1).mean(axis=0) for sense in senses], axis=0)
        curve = gap @ (gap[layer] / np.linalg.norm(gap[layer])) / size  # cos(ê_l, ê) ‖gap‖ is the gap along ê
        found[word] = curve / curve[np.abs(curve).argmax()]
    return found


@dataclass(frozen=True)
class FieldControl:
    """The factors with one h, and those of the shuffles that test them."""

    real: WordFactors
    shuffled: WordFactors

    def p_values(self, exclude_final: int) -> dict[str, float]:
        """Of every statistic, uncorrected."""
        null = self.shuffled.statistics(exclude_final)
        return {
            name: permutation_p(float(value[0]), null[name], name in TWO_SIDED)
            for name, value in self.real.statistics(exclude_final).items()
        }


@dataclass(frozen=True)
class Controls:
    """What the controls gave.

    Attributes:
        fields: by h, of FIELDS. before: the factors at the token before the word, h = rank.
        decoded, decoded_before: the graded prompts decoded along the layer's own direction, at the word and before.
        g, predicted: each word's g with h = final, and g̃.
        excess: the words' mean share of the squared sense part that directions without sense do not give.
    """

    fields: Mapping[str, FieldControl]
    before: WordFactors
    decoded: DecodedWords
    decoded_before: DecodedWords
    g: Mapping[str, Float[np.ndarray, "layers"]]
    predicted: Mapping[str, Float[np.ndarray, "layers"]]
    excess: Float[np.ndarray, "layers"]

    def summary(self, exclude_final: int, decoding_p: Mapping[str, float]) -> dict[str, Any]:
        """The figures under h = rank beside their means over shuffles; the correlation of g̃ with g; the AUC before the
        word; p: of the primary statistic, and of all others, those of decoding among them, after Holm.

        With one word only there is nothing to correlate, and what needs two words is null.
        """
        final, rank = (self.fields[field] for field in FIELDS)
        real, before = rank.real.statistics(exclude_final), self.before.statistics(exclude_final)
        null, null_rank = (each.shuffled.statistics(exclude_final) for each in (final, rank))
        low, high = _quantiles(null.get("word_correlation_mean"))
        alpha_low, alpha_high = _quantiles(null["alpha"])
        return {
            "null_correlation_mean": _mean(null.get("word_correlation_mean")),
            "null_correlation_low": low,
            "null_correlation_high": high,
            "null_alpha": float(np.median(null["alpha"])),
            "null_alpha_low": alpha_low,
            "null_alpha_high": alpha_high,
            "null_r2_drift_out": _mean(null["decomposition_r2_drift_out"]),
            "null_increment_correlation": _mean(null.get("increment_correlation_mean")),
            "rank": {
                "word_correlation_mean": _mean(real.get("word_correlation_mean")),
                "null_correlation_mean": _mean(null_rank.get("word_correlation_mean")),
                "decomposition_r2_drift_out": _mean(real["decomposition_r2_drift_out"]),
                "null_r2_drift_out": _mean(null_rank["decomposition_r2_drift_out"]),
            },
            "predicted_correlation_min": min(float(correlation(self.predicted[word], g)) for word, g in self.g.items()),
            "before": {
                "rank_correlation_mean": _mean(before.get("word_correlation_mean")),
                "separation_mean": _mean(before["separation_mean"]),
            },
            "auc_at_word": self._at_depths(self.decoded),
            "auc_before": self._at_depths(self.decoded_before),
            "p": self.corrected(exclude_final, decoding_p),
        }

    def corrected(self, exclude_final: int, decoding_p: Mapping[str, float]) -> dict[str, float]:
        """The primary statistic's p as it is, the others' after Holm; without those that need a second word."""
        raw = {
            f"{field}.{name}": p
            for field, control in self.fields.items()
            for name, p in control.p_values(exclude_final).items()
        }
        secondary = {name: raw[name] for name in SECONDARY if name in raw}
        secondary |= {f"auc.{name}": p for name, p in decoding_p.items()}
        return {name: raw[name] for name in (PRIMARY,) if name in raw} | holm(secondary)

    def rows(self) -> list[dict[str, Any]]:
        """Means over words by depth, for plots/controls.json: g by h and predicted, AUC by token, and the excess."""
        shuffled = np.quantile(self.fields["rank"].shuffled.factors.mean_g, QUANTILES, axis=0)
        unknown = [None] * len(self.excess)
        curves: list[tuple[str, str, Any, Any, Any]] = [
            ("g", "final", self.fields["final"].real.factors.mean_g[0], unknown, unknown),
            ("g", "rank", self.fields["rank"].real.factors.mean_g[0], *shuffled),
            ("g", "predicted", np.mean([self.predicted[word] for word in self.g], axis=0), unknown, unknown),
            ("auc", "at_word", self.decoded.mean, *_quantile_rows(self.decoded)),
            ("auc", "before", self.decoded_before.mean, *_quantile_rows(self.decoded_before)),
            ("excess", "within_senses", self.excess, unknown, unknown),
        ]
        return [
            {"panel": panel, "series": series, "depth": x, "value": y, "low": low, "high": high}
            for panel, series, *columns in curves
            for x, y, low, high in zip(np.linspace(0, 1, len(self.excess)), *columns, strict=True)
        ]

    @staticmethod
    def _at_depths(decoded: DecodedWords) -> dict[str, float]:
        """The mean AUC at the layers of DEPTHS, by layer."""
        layers = [round(depth * (len(decoded.mean) - 1)) for depth in DEPTHS]
        return {str(layer): float(decoded.mean[layer]) for layer in layers}


def run_controls(
    activations: Activations, layer: int, permutations: int, draws: int, resamples: int, seed: int
) -> Controls:
    """All controls; `permutations` shuffles for the tests, `draws` directions without sense for the excess."""
    words = word_residuals(activations, layer)
    parts = list(words.values())
    real = {field: factorise_words(parts, real_sigmas(parts, field), field) for field in FIELDS}
    shuffled = draw_null(TEST, parts, "final", permutations, seed)  # one fold, as h = rank has
    before = list(word_residuals(activations, layer, before=True).values())
    decoded, decoded_before = (
        decode_words(activations, layer, "gradient", "own", 1, resamples, seed, before=place) for place in (False, True)
    )
    return Controls(
        fields={field: FieldControl(real[field], factorise_words(parts, shuffled, field)) for field in FIELDS},
        before=factorise_words(before, real_sigmas(before, "rank"), "rank"),
        decoded=decoded,
        decoded_before=decoded_before,
        g=dict(zip(words, real["final"].factors.g[0], strict=True)),
        predicted=predicted_shape(activations, layer),
        excess=_mean_excess(parts, draws, seed),
    )


def _mean_excess(parts: Sequence[WordResiduals], draws: int, seed: int) -> Float[np.ndarray, "layers"]:
    real, null = real_sigmas(parts, "final"), draw_null("within_senses", parts, "final", draws, seed)
    senses = [
        (common_and_sense(word, sigma)[1][0], common_and_sense(word, drawn)[1])
        for word, sigma, drawn in zip(parts, real, null, strict=True)
    ]
    return np.mean([excess(*pair) for pair in senses], axis=0)


def _mean(values: Float[np.ndarray, "draws"] | None) -> float | None:
    return None if values is None else float(values.mean())


def _quantiles(values: Float[np.ndarray, "draws"] | None) -> tuple[float | None, float | None]:
    if values is None:
        return None, None
    low, high = np.quantile(values, QUANTILES)
    return float(low), float(high)


def _quantile_rows(decoded: DecodedWords) -> Float[np.ndarray, "2 layers"]:
    return np.quantile(decoded.mean_resampled, QUANTILES, axis=0)

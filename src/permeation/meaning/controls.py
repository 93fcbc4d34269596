"""What g is: its figures beside null models, with another h, before the word, from halves, and predicted from geometry.

p = (1 + shuffles at least as extreme) / (1 + shuffles). docs/meaning.md, p-values, says which statistic is the primary
one; the others are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from permeation.frame import progress
from permeation.meaning.activations import Activations
from permeation.meaning.bootstrap import interval, permutation_p
from permeation.meaning.decode import DIRECTIONS, TESTS, decode_words
from permeation.meaning.factors import FIELDS, Factors, correlations, factorise, word_residuals
from permeation.meaning.nulls import NULLS, draw_null
from permeation.meaning.readouts import baseline, read_outs
from permeation.meaning.reliability import identified, measure_reliability, own_and_others, predicted_shape
from permeation.meaning.rows import curve

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
CLAIMED = ("word_correlation_mean", "alpha")  # published figures (data/published.yaml)
DEPTHS = (1 / 6, 1 / 3, 2 / 3, 1)  # at which the AUC before the word stands in the metrics


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) step-down correction: the i-th smallest of n, times n − i + 1, and no smaller than the one before.

    Where all n nulls hold, the chance that any corrected p is at most α is at most α, however the tests depend.
    """
    corrected, at_least = {}, 0.0
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        at_least = max(at_least, min(1.0, (len(p) - i) * p[name]))
        corrected[name] = at_least
    return {name: corrected[name] for name in p}


def beside_shuffles(
    real: Mapping[str, Factors],
    shuffled: Mapping[str, Factors],
    decoding_p: Mapping[str, float],
    field: str,
    exclude_final: int,
) -> dict[str, Any]:
    """All secondary statistics, tested. Figures that need a second word are left out where there is none.

    final, rank: of each figure its value, its mean over shuffles (null_…; of alpha the median) and its p (p_…).
    p: all p-values after Holm, with those of decoding. null_…: of what is CLAIMED, with h = `field`, and the middle
    95 %.
    """
    groups: dict[str, dict[str, Any]] = {h: {} for h in real}
    raw = {f"auc.{name}": p for name, p in decoding_p.items()}
    found: dict[str, Any] = {"null_correlation_mean": None}
    for h, group in groups.items():
        values, nulls = (factors[h].statistics(exclude_final) for factors in (real, shuffled))
        for name in (each for each in SECONDARY if each in values):
            value, null, short = float(values[name]), nulls[name], f"null_{SECONDARY[name]}"
            group |= {name: value, short: float((np.median if name == "alpha" else np.mean)(null))}
            if h == "final" or name not in OF_FINAL_ALONE:
                raw[f"{h}.{name}"] = permutation_p(value, null, name in TWO_SIDED)
            if h == field and name in CLAIMED:
                bounds = [f"{short.removesuffix('_mean')}_{end}" for end in ("low", "high")]
                found |= {short: group[short]} | dict(zip(bounds, map(float, interval(null)), strict=True))
    corrected = holm(raw)
    for h, group in groups.items():
        group |= {f"p_{SECONDARY[n]}": corrected[f"{h}.{n}"] for n in SECONDARY if f"{h}.{n}" in corrected}
    return found | groups | {"p": corrected}


def run_controls(
    activations: Activations,
    layer: int,
    field: str,
    exclude_final: int,
    draws: int,
    permutations: int,
    resamples: int,
    decoded_at: float,
    seed: int,
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """All controls: the metrics g and decode, and the tables nulls, controls and decoding.

    field: response.field. permutations: behind each p-value. draws: of the null models that test nothing. decoded_at:
    the AUC from which on a sense counts as decoded.
    """
    words = word_residuals(activations, layer)
    parts = list(words.values())
    # A table's sentences have labels and no gradient: h is the label, and each is tested along the others' contrast.
    kinds, fields = (("direction",), ("rank",)) if activations.labelled else (TESTS, FIELDS)
    field = field if field in fields else "rank"
    tests = [(test, along) for test in kinds for along in DIRECTIONS]
    decoded = {
        f"{test}_{along}": decode_words(activations, layer, test, along, permutations, resamples, seed)
        for test, along in progress.each(tests, "decoding", len(tests))
    }
    decode: dict[str, Any] = {name: each.summary(decoded_at) for name, each in decoded.items()}
    places = {
        "at_word": decoded[f"{kinds[-1]}_own"],
        "before": decode_words(activations, layer, kinds[-1], "own", 1, resamples, seed, "before"),
    }

    shuffled = draw_null(SHUFFLE, parts, permutations, seed)
    real, shuffles = ({h: factorise(parts, h, sigmas) for h in fields} for sigmas in (None, shuffled))
    others = [name for name in NULLS if name != SHUFFLE and (name != "another_word" or len(parts) > 1)]
    nulls = {SHUFFLE: shuffles[field].mean_g} | {
        name: factorise(parts, field, draw_null(name, parts, draws, seed)).mean_g
        for name in progress.each(others, "null models", len(others))
    }
    found = beside_shuffles(real, shuffles, {name: each.p for name, each in decoded.items()}, field, exclude_final)
    before = factorise(word_residuals(activations, layer, "before").values(), "rank").statistics(exclude_final)
    found["before"] = {"rank_correlation_mean": float(before["word_correlation_mean"]) if len(parts) > 1 else None}
    depths = [round(depth * (activations.at_word.shape[1] - 1)) for depth in DEPTHS]
    found |= {f"auc_{name}": {str(each): float(one.mean[each]) for each in depths} for name, one in places.items()}
    reliability = {h: measure_reliability(parts, h, permutations, resamples, seed) for h in fields}
    if primary := reliability.pop("rank"):
        found["reliability"] = primary | reliability
        found["p"][PRIMARY] = primary["p"]
    shapes: dict[str, tuple[np.ndarray, ...]] = {h: (factors.mean_g,) for h, factors in real.items()}
    shapes["rank"] += interval(shuffles["rank"].mean_g)
    if activations.labelled:
        decode["sentences"], places = read_outs(activations, layer, places, decoded_at, resamples, seed)
    else:
        prediction = predicted_shape(activations, layer)
        predicted = np.stack([prediction[word] for word in words])
        shapes["predicted"] = (predicted.mean(axis=0),)
        if primary:
            C = correlations(predicted, real["final"].g)
            fit, of_others = own_and_others(C, np.ones(len(C)))
            found["predicted"] = {"own": float(fit), "others": float(of_others), "identified": identified(C)}
        if activations.context is not None:
            decode["context"] = baseline(activations, resamples, seed)
    auc = {place: (each.mean, *interval(each.mean_resampled)) for place, each in places.items()}
    drawn = {name: (np.median(g, axis=0), *interval(g)) for name, g in nulls.items()}
    return {"g": found, "decode": decode}, {
        "nulls": curve("words", "g", real[field].mean_g)
        + [row for name, each in drawn.items() for row in curve(name, "g", *each)],
        "controls": [row for name, each in shapes.items() for row in curve("g", name, *each)]
        + [row for place, each in auc.items() for row in curve("auc", place, *each)],
        "decoding": [
            row for test, along in tests for row in decoded[f"{test}_{along}"].rows(test=test, direction=along)
        ],
    }

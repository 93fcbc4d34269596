"""What g is: its figures beside null models, with another h, before the word, from halves, and predicted from geometry.

p = (1 + shuffles at least as extreme) / (1 + shuffles). docs/meaning.md, p-values, says which statistic is the primary
one; the others are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.frame import progress
from permeation.meaning.activations import Activations
from permeation.meaning.bootstrap import interval
from permeation.meaning.decode import DIRECTIONS, TESTS, decode_words
from permeation.meaning.factors import FIELDS, factorise, factorise_words, word_residuals
from permeation.meaning.nulls import NULLS, draw_null
from permeation.meaning.readouts import baseline, read_outs
from permeation.meaning.reliability import (
    agreement,
    identified,
    measure_reliability,
    own_and_others,
    predicted_shape,
)
from permeation.meaning.rows import curve

SHUFFLE = "senses_shuffled"  # the one null model that is an exact permutation test
SLOW = "walk_about_mean"  # minutes for the many words of a table
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
Tested = dict[str, dict[str, tuple[float, np.ndarray]]]  # by h and figure: its value, and that of each shuffle
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
    places = {
        "at_word": decoded[f"{kinds[-1]}_own"],
        "before": decode_words(activations, layer, kinds[-1], "own", 1, resamples, seed, "before"),
    }

    real = {each: factorise_words(words, each) for each in fields}
    shuffled = draw_null(SHUFFLE, parts, permutations, seed)
    shuffles = {each: factorise(parts, shuffled, each) for each in fields}
    skipped = {SHUFFLE, *(() if len(parts) > 1 else ("another_word",))} | ({SLOW} if activations.labelled else set())
    others = [name for name in NULLS if name not in skipped]
    nulls = {SHUFFLE: shuffles[field]} | {
        name: factorise(parts, draw_null(name, parts, draws, seed), field)
        for name in progress.each(others, "null models", len(others))
    }
    reliability = {each: measure_reliability(words, each, permutations, resamples, seed) for each in fields}

    tested: Tested = {each: {} for each in fields}
    for each in fields:
        value, null = (factors[each].statistics(exclude_final) for factors in (real, shuffles))
        tested[each] |= {name: (float(value[name]), null[name]) for name in SECONDARY if name in value}
    p = p_values(tested, {name: each.p for name, each in decoded.items()})
    p |= {PRIMARY: reliability["rank"]["p"]} if reliability["rank"] else {}
    elsewhere = factorise_words(word_residuals(activations, layer, "before"), "rank").statistics(exclude_final)
    found = {"null_correlation_mean": None} | grouped(tested, field, p)
    found |= {
        "before": {
            "rank_correlation_mean": float(elsewhere["word_correlation_mean"]) if len(parts) > 1 else None,
            "separation_mean": float(elsewhere["separation_mean"]),
        },
        "auc_at_word": _at_depths(places["at_word"].mean),
        "auc_before": _at_depths(places["before"].mean),
        "p": p,
    }
    if reliability["rank"]:
        found["reliability"] = reliability["rank"] | {each: reliability[each] for each in fields if each != "rank"}
    decode: dict[str, Any] = {name: each.summary(decoded_at) for name, each in decoded.items()}
    shapes: dict[str, tuple[np.ndarray, ...]] = {each: (factors.mean_g,) for each, factors in real.items()}
    shapes["rank"] += interval(shuffles["rank"].mean_g)
    if activations.labelled:
        own, found["sentences"], places = read_outs(activations, layer, places["at_word"], decoded_at, resamples, seed)
        decode["sentences"] = own
    else:
        prediction = predicted_shape(activations, layer)
        predicted = np.stack([prediction[word] for word in words])
        shapes["predicted"] = (predicted.mean(axis=0),)
        if reliability["rank"]:
            C = agreement(predicted, real["final"].g)
            fit, of_others = own_and_others(C, np.ones(len(C)))
            found["predicted"] = {"own": float(fit), "others": float(of_others), "identified": identified(C)}
        if activations.context is not None:
            decode["context"] = baseline(activations, resamples, seed)
    drawn = {name: factors.mean_g for name, factors in nulls.items()}
    return {"g": found, "decode": decode}, {
        "nulls": curve("words", "g", real[field].mean_g)
        + [row for name, g in drawn.items() for row in curve(name, "g", np.median(g, axis=0), *interval(g))],
        "controls": [row for name, values in shapes.items() for row in curve("g", name, *values)]
        + [
            row
            for name, each in places.items()
            for row in curve("auc", name, each.mean, *interval(each.mean_resampled))
        ],
        "decoding": [row for each in decoded.values() for row in each.rows()],
    }


def p_values(tested: Tested, decoding: Mapping[str, float]) -> dict[str, float]:
    """Of all secondary statistics, after Holm; without those that need a second word."""
    raw = {
        f"{field}.{name}": permutation_p(value, null, name in TWO_SIDED)
        for field, figures in tested.items()
        for name, (value, null) in figures.items()
        if field == "final" or name not in OF_FINAL_ALONE
    }
    return holm(raw | {f"auc.{name}": p for name, p in decoding.items()})


def grouped(tested: Tested, field: str, p: Mapping[str, float]) -> dict[str, Any]:
    """final, rank: of each figure its value, its mean over shuffles (null_…; of alpha the median) and its p (p_…).

    null_… outside these groups is that of `field`, of two figures with the middle 95 %.
    """
    groups: dict[str, dict[str, Any]] = {each: {} for each in tested}
    for each, figures in tested.items():
        for name, (value, null) in figures.items():
            short, key = SECONDARY[name], f"{each}.{name}"
            groups[each] |= {name: value, f"null_{short}": float((np.median if name == "alpha" else np.mean)(null))}
            groups[each] |= {f"p_{short}": p[key]} if key in p else {}
    found = {name: value for name, value in groups[field].items() if name.startswith("null_")}
    for name in (name for name in ("word_correlation_mean", "alpha") if name in tested[field]):
        short = SECONDARY[name].removesuffix("_mean")
        found[f"null_{short}_low"], found[f"null_{short}_high"] = map(float, interval(tested[field][name][1]))
    return found | groups


def _at_depths(auc: Float[np.ndarray, "layers"]) -> dict[str, float]:
    layers = [round(depth * (len(auc) - 1)) for depth in DEPTHS]
    return {str(layer): float(auc[layer]) for layer in layers}

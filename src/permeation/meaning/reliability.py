"""Whether words share one g: how well a word's own g is reproduced, beside how well two words' g agree.

C_ij is the correlation over layers of word i's g from one half of its prompts with word j's from the other half.
within = mean C_ii, between = mean C_ij over i ≠ j, corrected = between / within: what the between-word correlation
would be without the noise of the prompts (Spearman, 1904). One g for all words: corrected is 1, and no half finds its
own word.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from permeation.frame.seeds import named_generator
from permeation.meaning.activations import Activations
from permeation.meaning.bootstrap import interval, resample_words
from permeation.meaning.factors import WordResiduals, context_field, normalised, slope
from permeation.meaning.sigma import unit
from permeation.meaning.words import SENSES


def agreement(
    x: Float[np.ndarray, "curves layers"], y: Float[np.ndarray, "curves layers"]
) -> Float[np.ndarray, "curves curves"]:
    """C: the Pearson correlation of every curve of x with every curve of y."""
    x, y = (unit(each - each.mean(axis=-1, keepdims=True)) for each in (x, y))
    return x @ y.T


def own_and_others(
    C: Float[np.ndarray, "words words"], weights: Float[np.ndarray, "*draws words"]
) -> tuple[Float[np.ndarray, "*draws"], Float[np.ndarray, "*draws"]]:
    """Mean C_ii, and mean C_ij over different words, where words count `weights` times."""
    pairs = weights[..., :, None] * weights[..., None, :] * (1 - np.eye(len(C)))
    own = (weights * C.diagonal()).sum(axis=-1) / weights.sum(axis=-1)
    return np.asarray(own), np.asarray((pairs * C).sum(axis=(-2, -1)) / pairs.sum(axis=(-2, -1)))


def identified(C: Float[np.ndarray, "words words"]) -> float:
    """The share of columns whose largest entry is that of the same word."""
    return float((C.argmax(axis=0) == np.arange(len(C))).mean())


def half_curves(words: Mapping[str, WordResiduals], field: str) -> Float[np.ndarray, "halves words layers"]:
    """g of each word from its even and from its odd pairs of direction prompts and gradient prompts."""
    curves = []
    for first in range(2):
        halves = [word.half(first) for word in words.values()]
        sigmas = [half.sigma() for half in halves]
        fields = [context_field(sigma, half.rank, field) for sigma, half in zip(sigmas, halves, strict=True)]
        curves.append(normalised(np.stack([slope(*pair) for pair in zip(fields, sigmas, strict=True)])))
    return np.stack(curves)


def measure_reliability(
    words: Mapping[str, WordResiduals], field: str, permutations: int, resamples: int, seed: int
) -> dict[str, float] | None:
    """The figures, with the middle 95 % over resampled words; None for fewer than two words that have two halves.

    identified: the share of halves whose nearest, among the other halves of all words, is that of their own word.
    p: of `within`, under permutations of which second half belongs to which word.
    """
    halved = {
        name: word
        for name, word in words.items()
        if min(len(word.sense_a), len(word.sense_b), *word.counts[:2]) >= 2  # one for each half
    }
    if len(halved) < 2:
        return None
    return summarise(agreement(*half_curves(halved, field)), field, permutations, resamples, seed)


def summarise(
    C: Float[np.ndarray, "words words"], field: str, permutations: int, resamples: int, seed: int
) -> dict[str, float]:
    """The figures of C."""
    n, rng = len(C), named_generator(seed, f"reliability {field}")
    permuted = np.array([C[np.arange(n), rng.permutation(n)].mean() for _ in range(permutations)])
    own, others = own_and_others(C, np.ones(n))
    drawn = own_and_others(C, resample_words(n, resamples, named_generator(seed, "reliability words")) * 1.0)
    values = {
        "within": (own, drawn[0]),
        "between": (others, drawn[1]),
        "corrected": (others / own, drawn[1] / drawn[0]),
    }
    found = {name: float(value) for name, (value, _) in values.items()}
    for name, (_, resampled) in values.items():
        found[f"{name}_low"], found[f"{name}_high"] = map(float, interval(resampled))
    return found | {
        "identified": (identified(C) + identified(C.T)) / 2,
        "chance": 1 / n,
        "p": float((1 + np.sum(permuted >= own)) / (1 + permutations)),
    }


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
        found[word] = normalised(gap @ unit(gap[layer]) / size)  # cos(ê_l, ê) ‖gap‖ is the gap along ê
    return found

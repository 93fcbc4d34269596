"""Whether words share one g: how well a word's own g is reproduced, beside how well two words' g agree.

C_ij is the correlation over layers of word i's g from one half of its prompts with word j's from the other half.
within = mean C_ii, between = mean C_ij over i ≠ j, corrected = between / within: what the between-word correlation
would be without the noise of the prompts (Spearman, 1904). One g for all words: corrected is 1, and no half finds its
own word.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from permeation.frame.seeds import named_generator
from permeation.meaning.activations import Activations
from permeation.meaning.bootstrap import permutation_p, resample_words, with_interval
from permeation.meaning.factors import WordResiduals, correlations, factorise, normalised
from permeation.meaning.sigma import unit
from permeation.meaning.words import SENSES


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


def measure_reliability(
    words: Iterable[WordResiduals], field: str, permutations: int, resamples: int, seed: int
) -> dict[str, float] | None:
    """The figures, with the middle 95 % over resampled words; None for fewer than two words that have two halves.

    identified: the share of halves whose nearest, among the other halves of all words, is that of their own word.
    p: of `within`, under permutations of which second half belongs to which word.
    """
    halved = [word for word in words if min(len(word.sense_a), len(word.sense_b), *word.counts[:2]) >= 2]
    if (n := len(halved)) < 2:
        return None
    C = correlations(*(factorise([word.half(first) for word in halved], field).g for first in range(2)))
    rng = named_generator(seed, f"reliability {field}")
    permuted = np.array([C[np.arange(n), rng.permutation(n)].mean() for _ in range(permutations)])
    weights = np.vstack([np.ones(n), resample_words(n, resamples, named_generator(seed, "reliability words"))])
    within, between = own_and_others(C, weights)  # as it is, then of the resamples
    found: dict[str, float] = {}
    for name, values in (("within", within), ("between", between), ("corrected", between / within)):
        found |= with_interval(name, values[0], values[1:])
    return found | {
        "identified": (identified(C) + identified(C.T)) / 2,
        "chance": 1 / n,
        "p": permutation_p(within[0], permuted),
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

"""Percentile intervals by resampling prompts within a word and words; p-values by permutation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from permeation.meaning.factors import Factors, WordResiduals, factorise


def resample_words(count: int, resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "resamples words"]:
    """How often each word is drawn.

    A word drawn twice forms no pair with itself: its correlation with itself is 1 and says nothing. Draws of one
    word only have no pair and are drawn again where there are several words.
    """
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    while count > 1 and (lonely := weights.max(axis=1) == count).any():
        weights[lonely] = rng.multinomial(count, np.full(count, 1 / count), size=int(lonely.sum()))
    return weights


def resample(words: Mapping[str, WordResiduals], field: str, resamples: int, rng: np.random.Generator) -> Factors:
    """The factors of resampled prompts and words: each list of prompts, and then the words, drawn with replacement.

    Direction prompts are drawn too, so ê moves. Resampled prompts add their noise a second time, so statistics that
    noise lowers (correlations, R²) come out lower than the estimate on average, and the interval may lie below it.
    """
    sigmas, ranks = [], []
    for word in words.values():
        sizes = (len(word.sense_a), len(word.sense_b))
        times = np.concatenate([rng.multinomial(n, np.full(n, 1 / n), resamples) for n in sizes], axis=1)
        lists = zip(np.cumsum(word.counts), word.counts, strict=True)
        chosen = np.concatenate([rng.integers(end - n, end, (resamples, n)) for end, n in lists], axis=1)
        sigmas.append(np.take_along_axis(word.sigma(times * word.weights), chosen[..., None], axis=-2))
        ranks.append(word.rank[chosen[:, : len(word.rank)]])
    return factorise(words.values(), field, sigmas, resample_words(len(words), resamples, rng), ranks)


def exchanges(a: int, b: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draws prompts"]:
    """Orders of the prompts of A, then B: the two at one place of the lists are exchanged or not, by a coin."""
    orders = np.tile(np.arange(a + b), (draws, 1))
    pairs = np.arange(min(a, b))
    swap = rng.integers(2, size=(draws, len(pairs))).astype(bool)
    orders[:, pairs], orders[:, a + pairs] = np.where(swap, a + pairs, pairs), np.where(swap, pairs, a + pairs)
    return orders


def interval(values: Float[np.ndarray, "resamples *rest"]) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % over the resamples."""
    low, high = np.quantile(values, (0.025, 0.975), axis=0)
    return np.asarray(low), np.asarray(high)


def with_interval(name: str, value: Any, resampled: Float[np.ndarray, "resamples"]) -> dict[str, float]:
    """A figure under its name, and the middle 95 % over the resamples as <name>_low and <name>_high."""
    low, high = interval(resampled)
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def permutation_p(real: float, null: Float[np.ndarray, "draws"], two_sided: bool = False) -> float:
    """(1 + draws at least as large) / (1 + draws), which is exact (Phipson and Smyth, 2010).

    Two-sided: twice the smaller of the two tails.
    """
    above, below = (1 + np.sum(null >= real)) / (1 + len(null)), (1 + np.sum(null <= real)) / (1 + len(null))
    return float(min(1.0, 2 * min(above, below)) if two_sided else above)

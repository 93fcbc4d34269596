"""Percentile intervals by resampling prompts within a word and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from permeation.meaning.factors import WordFactors, WordResiduals, factorise_words, folds_of

LEVELS = (0.025, 0.975)


def resample_words(count: int, resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "resamples words"]:
    """How often each word is drawn.

    A word drawn twice forms no pair with itself: its correlation with itself is 1 and says nothing. Draws of one
    word only have no pair and are drawn again where there are several words.
    """
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    while count > 1 and (lonely := weights.max(axis=1) == count).any():
        weights[lonely] = rng.multinomial(count, np.full(count, 1 / count), size=int(lonely.sum()))
    return weights


def resample(
    words: Sequence[WordResiduals], field: str, resamples: int, rng: np.random.Generator, signed: bool = False
) -> WordFactors:
    """Draw prompts within each word, and words, with replacement, and measure each resample.

    Direction prompts are drawn within their sense (and fold), so ê moves too; gradient and condition prompts within
    their list. Resampled prompts add their noise a second time, so statistics that noise lowers (correlations, R²)
    come out lower than the estimate on average, and the interval may lie below it.
    """
    sigmas, ranks = [], []
    for word in words:
        weights = word.contrast_weights(folds_of(field))
        times = np.zeros((resamples, *weights.shape), dtype=int)
        for fold, row in enumerate(weights):
            for members in (np.flatnonzero(row > 0), np.flatnonzero(row < 0)):
                times[:, fold, members] = rng.multinomial(
                    len(members), np.full(len(members), 1 / len(members)), resamples
                )
        sigma = word.sigma(word.directions(times * weights))
        ends = np.cumsum(word.counts)
        chosen = np.concatenate(
            [rng.integers(end - count, end, (resamples, count)) for end, count in zip(ends, word.counts, strict=True)],
            axis=1,
        )
        sigmas.append(np.take_along_axis(sigma, chosen[:, None, :, None], axis=2))
        ranks.append(word.rank[chosen[:, None, : len(word.rank)]])
    return factorise_words(words, sigmas, field, resample_words(len(words), resamples, rng), ranks, signed)


def interval(values: Float[np.ndarray, "resamples *rest"]) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % over the resamples."""
    low, high = np.quantile(values, LEVELS, axis=0)
    return np.asarray(low), np.asarray(high)

"""σ(l, h) = h · f_max(word) · g(l/L): the factors, whether all words share one g, and what the product explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from permeation.frame.errors import PermeationError
from permeation.meaning.laws import power_exponent
from permeation.meaning.response import Response, linear_response
from permeation.meaning.sigma import unit


@dataclass(frozen=True)
class Factorisation:
    """The factors for a set of words, from each word's h and σ over its gradient prompts (docs/meaning.md, h, f and g).

    Leading axes are independent draws. Every mean over words is weighted by `weights`.

    Attributes:
        responses: h, f and f_max of each word.
        g: f / f_max, one row a word.
        weights: how often each word counts, as a bootstrap over words draws it.
        decomposition_r2: share of σ's variance, pooled over the words, that h · f_max · g̅ explains, with g̅ the mean
            over the *other* words. Negative where a constant would do better.
        decomposition_r2_drift_out: the same with each word's mean over its prompts taken out of σ and of the product
            at every layer. That mean is the drift that all prompts of a word share, which a product without an
            intercept cannot express.
    """

    responses: tuple[Response, ...]
    g: Float[np.ndarray, "*draws words layers"]
    weights: Real[np.ndarray, "*#draws words"]
    decomposition_r2: Float[np.ndarray, "*draws"] | float
    decomposition_r2_drift_out: Float[np.ndarray, "*draws"] | float

    @property
    def f_max(self) -> Float[np.ndarray, "*draws words"]:
        """f_max of each word."""
        return np.stack([response.f_max for response in self.responses], axis=-1)

    @property
    def mean_g(self) -> Float[np.ndarray, "*draws layers"]:
        """g averaged over the words."""
        return (self.weights[..., None] * self.g).sum(axis=-2) / self.weights.sum(axis=-1)[..., None]

    @property
    def peak_depth(self) -> Float[np.ndarray, "*draws"] | float:
        """The depth l/L at which the mean g is largest, in [0, 1]."""
        return self.mean_g.argmax(axis=-1) / (self.g.shape[-1] - 1)

    @property
    def final_drop(self) -> Float[np.ndarray, "*draws"] | float:
        """How much of its peak the mean g has lost at the last layer, in units of the peak."""
        return 1 - self.mean_g[..., -1] / self.mean_g.max(axis=-1)

    @property
    def increment_correlation(self) -> Float[np.ndarray, "*draws"] | float:
        """The mean correlation between two different words' increments g(l) − g(l − 1), l from 1 to L − 1.

        Any two curves that rise from 0 to 1 correlate; their increments need not. The last block's is left out: it is
        several times any other, so that a correlation with it in is mostly about that one step.
        """
        return self._over_pairs(pairwise_correlation(np.diff(self.g[..., :-1], axis=-1)))[0]

    def word_correlation(self) -> tuple[Float[np.ndarray, "*draws"] | float, Float[np.ndarray, "*draws"] | float]:
        """The mean and the smallest Pearson correlation over layers between two different words' g."""
        return self._over_pairs(pairwise_correlation(self.g))

    def _over_pairs(
        self, correlation: Float[np.ndarray, "*draws pairs"]
    ) -> tuple[Float[np.ndarray, "*draws"] | float, Float[np.ndarray, "*draws"] | float]:
        """The weighted mean and the smallest of what pairs of different words gave."""
        first, second = np.triu_indices(self.g.shape[-2], k=1)
        pair = self.weights[..., first] * self.weights[..., second]
        mean = (pair * correlation).sum(axis=-1) / pair.sum(axis=-1)
        return mean, np.where(pair > 0, correlation, np.inf).min(axis=-1)

    def statistics(self, exclude_final: int) -> dict[str, Any]:
        """The headline figures by name; those that compare words are left out where there is one word only.

        Raises PermeationError where what is left without the final layers does not determine the exponent.
        """
        n_layers = self.g.shape[-1] - 1
        if (left := n_layers - exclude_final) < 2:
            raise PermeationError(
                f"g.exclude_final is {exclude_final}, which leaves {max(left, 0)} of this model's {n_layers} layers; "
                "the exponent of g needs at least 2"
            )
        inner = left + 1
        depth = np.linspace(0, 1, self.g.shape[-1])[:inner]
        found = {
            "peak_depth": self.peak_depth,
            "final_drop": self.final_drop,
            "alpha": power_exponent(depth, self.mean_g[..., :inner]),
            "decomposition_r2": self.decomposition_r2,
            "decomposition_r2_drift_out": self.decomposition_r2_drift_out,
            "f_max_mean": (self.weights * self.f_max).sum(axis=-1) / self.weights.sum(axis=-1),
        }
        if len(self.responses) == 1:
            return found
        mean, least = self.word_correlation()
        return {
            "word_correlation_mean": mean,
            "word_correlation_min": least,
            "increment_correlation_mean": self.increment_correlation,
            **found,
        }


def factorise(
    fields: Sequence[Float[np.ndarray, "*draws _prompts"]],
    sigmas: Sequence[Float[np.ndarray, "*draws _prompts layers"]],
    weights: Real[np.ndarray, "*#draws words"] | None = None,
    signed: bool = False,
) -> Factorisation:
    """Fit the factors to the words' h and σ over their gradient prompts; every word counts once unless weighted.

    signed: how f_max is chosen (`Response.signed`).
    """
    responses = tuple(linear_response(h, sigma, signed) for h, sigma in zip(fields, sigmas, strict=True))
    g = np.stack([response.g for response in responses], axis=-2)
    weights = np.ones(len(responses)) if weights is None else weights
    others = leave_one_out_mean(g, weights)
    count, total, square, missed, moving, moving_missed = (np.zeros(g.shape[:-2]) for _ in range(6))
    for i, (response, sigma) in enumerate(zip(responses, sigmas, strict=True)):
        rebuilt = response.h[..., None] * (response.f_max[..., None] * others[..., i, :])[..., None, :]
        count = count + weights[..., i] * sigma[..., 0].shape[-1] * sigma.shape[-1]
        total = total + weights[..., i] * sigma.sum(axis=(-2, -1))
        square = square + weights[..., i] * np.square(sigma).sum(axis=(-2, -1))
        missed = missed + weights[..., i] * np.square(sigma - rebuilt).sum(axis=(-2, -1))
        # Without the means over prompts both lie along their deviations, whose squares are Σ(·)² − n (mean)².
        for_each = sigma.shape[-2]
        left, drift = sigma - rebuilt, sigma.mean(axis=-2)
        moving = moving + weights[..., i] * (
            np.square(sigma).sum(axis=(-2, -1)) - for_each * np.square(drift).sum(axis=-1)
        )
        moving_missed = moving_missed + weights[..., i] * (
            np.square(left).sum(axis=(-2, -1)) - for_each * np.square(left.mean(axis=-2)).sum(axis=-1)
        )
    return Factorisation(responses, g, weights, 1 - missed / (square - total**2 / count), 1 - moving_missed / moving)


def leave_one_out_mean(
    g: Float[np.ndarray, "*draws words layers"], weights: Real[np.ndarray, "*#draws words"]
) -> Float[np.ndarray, "*draws words layers"]:
    """g̅ for each word from the other words only; a single word has no others, and its own g serves."""
    if g.shape[-2] == 1:
        return g
    others = weights[..., None, :] * (1 - np.eye(g.shape[-2]))
    # A draw that holds one word only leaves that word without others; its own g serves there too.
    alone = others.sum(axis=-1) == 0
    others = others + alone[..., None] * np.eye(g.shape[-2])
    return others @ g / others.sum(axis=-1)[..., None]


def pairwise_correlation(g: Float[np.ndarray, "*draws words layers"]) -> Float[np.ndarray, "*draws pairs"]:
    """Pearson correlation over layers between the curves of every pair of words; 0 with a curve that is constant."""
    offset = unit(g - g.mean(axis=-1, keepdims=True))
    first, second = np.triu_indices(g.shape[-2], k=1)
    return (offset @ np.swapaxes(offset, -1, -2))[..., first, second]

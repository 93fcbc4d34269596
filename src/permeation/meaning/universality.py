"""σ(l, h) = h · f_max(word) · g(l/L): the factors, whether all words share one g, and what the product explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from permeation.meaning.response import Response, field, linear_response


@dataclass(frozen=True)
class Factorisation:
    """The factors for a set of words, from each word's σ over its gradient prompts (DESIGN.md, h to g).

    Attributes:
        responses: h, f and f_max of each word.
        g: f / f_max, one row a word.
        decomposition_r2: share of σ's variance that h · f_max · g̅ explains, with g̅ the mean over the *other* words:
            per word, and pooled over all. Negative where the word's own mean would do better.
    """

    responses: tuple[Response, ...]
    g: Float[np.ndarray, "words layers"]
    decomposition_r2: Float[np.ndarray, "words"]
    pooled_r2: float

    @property
    def mean_g(self) -> Float[np.ndarray, "layers"]:
        """g averaged over the words."""
        return self.g.mean(axis=0)

    @property
    def peak_depth(self) -> float:
        """The depth l/L at which the mean g is largest, in [0, 1]."""
        return float(self.mean_g.argmax() / (self.g.shape[1] - 1))

    @property
    def final_drop(self) -> float:
        """How much of its peak the mean g has lost at the last layer, in units of the peak."""
        return float(1 - self.mean_g[-1] / self.mean_g.max())


def factorise(sigmas: Sequence[Float[np.ndarray, "_prompts layers"]]) -> Factorisation:
    """Fit the factors to the words' σ, each array one word's gradient prompts by layers."""
    responses = tuple(linear_response(field(sigma), sigma) for sigma in sigmas)
    g = np.stack([response.g for response in responses])
    rebuilt = [
        np.outer(response.h, response.f_max * others)
        for response, others in zip(responses, leave_one_out_mean(g), strict=True)
    ]
    return Factorisation(
        responses=responses,
        g=g,
        decomposition_r2=np.array([r_squared(*pair) for pair in zip(sigmas, rebuilt, strict=True)]),
        pooled_r2=r_squared(np.concatenate(sigmas), np.concatenate(rebuilt)),
    )


def leave_one_out_mean(g: Float[np.ndarray, "words layers"]) -> Float[np.ndarray, "words layers"]:
    """g̅ for each word from the other words only; a single word has no others, and its own g serves."""
    return g if len(g) == 1 else (g.sum(axis=0) - g) / (len(g) - 1)


def pairwise_correlation(g: Float[np.ndarray, "words layers"]) -> Float[np.ndarray, "pairs"]:
    """Pearson correlation over layers between the curves of every pair of words; empty for a single word."""
    return np.atleast_2d(np.corrcoef(g))[np.triu_indices(len(g), k=1)]


def r_squared(measured: Float[np.ndarray, "..."], predicted: Float[np.ndarray, "..."]) -> float:
    """1 − Σ(σ − σ̂)² / Σ(σ − σ̄)²: negative where the prediction is worse than the mean."""
    return float(1 - np.square(measured - predicted).sum() / np.square(measured - measured.mean()).sum())

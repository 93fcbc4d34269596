"""From residuals to factors: σ of a word's prompts along many directions at once, and what it factorises into.

The directions are the real one, bootstrapped ones, and those of null models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations, graded_words
from permeation.meaning.response import context_field
from permeation.meaning.sigma import check_contrast, order_parameter, unit
from permeation.meaning.universality import Factorisation, factorise
from permeation.meaning.words import SENSES, select


@dataclass(frozen=True)
class WordResiduals:
    """What σ of one word is made from.

    Attributes:
        sense_a, sense_b: residual stream of the direction prompts at the direction layer.
        measured: residual stream at every layer of the gradient prompts of A, of B, the strong_A and the strong_B
            conditions, in this order.
        counts: how many of each of these four there are.
        rank: each gradient prompt's place in its list, (rank + 1) / n for A and −(rank + 1) / n for B.
    """

    sense_a: Float[np.ndarray, "prompts_a d_model"]
    sense_b: Float[np.ndarray, "prompts_b d_model"]
    measured: Float[np.ndarray, "prompts layers d_model"]
    counts: tuple[int, int, int, int]
    rank: Float[np.ndarray, "gradient"]

    def directions(self, weights: Float[np.ndarray, "*draws direction_prompts"]) -> Float[np.ndarray, "*draws d_model"]:
        """Unit vectors along weighted sums of the direction prompts, sense A first."""
        return unit(weights @ np.concatenate([self.sense_a, self.sense_b]).astype(np.float64))

    def contrast_weights(self, folds: int) -> Float[np.ndarray, "folds direction_prompts"]:
        """The weights that make ê: 1/n for A, −1/n for B; with two folds, of every other prompt each."""
        position = np.concatenate([np.arange(len(self.sense_a)), np.arange(len(self.sense_b))])
        is_a = np.arange(len(position)) < len(self.sense_a)
        member = position % folds == np.arange(folds)[:, None]
        count_a, count_b = (np.sum(member & chosen, axis=1, keepdims=True) for chosen in (is_a, ~is_a))
        return np.where(member, np.where(is_a, 1 / count_a, -1 / count_b), 0.0)

    def sigma(self, directions: Float[np.ndarray, "*draws d_model"]) -> Float[np.ndarray, "*draws prompts layers"]:
        """σ of the measured prompts along each direction."""
        return order_parameter(self.measured, directions)


def word_residuals(activations: Activations, layer: int, before: bool = False) -> dict[str, WordResiduals]:
    """Every graded word's part of the activations; `layer` is the one whose residuals make ê.

    With `before` all is read at the token before the word.
    Raises PermeationError where no word has a gradient, or one has no contrast.
    """
    residuals = activations.before if before else activations.at_word
    prompts, found = activations.prompts, {}
    for word in graded_words(prompts):
        measured = [
            *(select(prompts, word, "gradient", sense) for sense in SENSES),
            *(select(prompts, word, "condition", f"strong_{sense}") for sense in SENSES),
        ]
        a, b, *_ = map(len, measured)
        found[word] = WordResiduals(
            sense_a=residuals[select(prompts, word, "direction", "A"), layer],
            sense_b=residuals[select(prompts, word, "direction", "B"), layer],
            measured=residuals[[i for part in measured for i in part]],
            counts=(a, b, len(measured[2]), len(measured[3])),
            rank=np.concatenate([np.arange(1, a + 1) / a, -np.arange(1, b + 1) / b]),
        )
        check_contrast(word, found[word].sense_a, found[word].sense_b)
    if not found:
        raise PermeationError("no word of the words file has gradient prompts of both senses, which g is made from")
    return found


def folds_of(field: str) -> int:
    """How many directions a word needs: two from disjoint halves of the prompts where h is held out, else one."""
    return 2 if field == "heldout" else 1


@dataclass(frozen=True)
class WordFactors:
    """The factors and the end separation of every draw, be it of directions, prompts or words."""

    factors: Factorisation
    separation: Float[np.ndarray, "draws words"]

    def statistics(self, exclude_final: int) -> dict[str, np.ndarray]:
        """The headline figures of each draw by name; separation is σ(L) of strong_A − strong_B, mean over words."""
        weights = self.factors.weights
        separation = (weights * self.separation).sum(axis=-1) / weights.sum(axis=-1)
        return {**self.factors.statistics(exclude_final), "separation_mean": separation}


def factorise_words(
    words: Sequence[WordResiduals],
    sigmas: Sequence[Float[np.ndarray, "draws folds _prompts layers"]],
    field: str,
    weights: Real[np.ndarray, "#draws words"] | None = None,
    ranks: Sequence[Float[np.ndarray, "..."]] | None = None,
    signed: bool = False,
) -> WordFactors:
    """Factorise σ of every draw; `ranks` replaces the words' own where prompts were resampled."""
    ranks = [word.rank for word in words] if ranks is None else ranks
    rows = [
        context_field(sigma[..., : len(word.rank), :], rank, field)
        for word, sigma, rank in zip(words, sigmas, ranks, strict=True)
    ]
    separation = [end_separation(word, sigma) for word, sigma in zip(words, sigmas, strict=True)]
    factors = factorise([h for h, _ in rows], [sigma for _, sigma in rows], weights, signed)
    return WordFactors(factors, np.stack(separation, axis=-1))


def end_separation(
    word: WordResiduals, sigma: Float[np.ndarray, "draws folds prompts layers"]
) -> Float[np.ndarray, "draws"]:
    """σ(L) of the strong_A prompts − of the strong_B prompts, mean over folds."""
    a, b = word.counts[2:]
    final = sigma[..., -1].mean(axis=1)
    return final[:, -(a + b) : -b].mean(axis=-1) - final[:, -b:].mean(axis=-1)


def real_sigmas(words: Sequence[WordResiduals], field: str) -> list[Float[np.ndarray, "1 folds _prompts layers"]]:
    """σ along the words' own contrasts, as a single draw."""
    return [word.sigma(word.directions(word.contrast_weights(folds_of(field))[None])) for word in words]

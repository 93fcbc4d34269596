"""Null models: σ where the senses mean nothing. Each gives an array (draws, prompts, layers) per word.

`senses_shuffled` is a test of whether there is a sense; it says nothing about whether words share one g. The others
describe (docs/meaning.md, Null models).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from permeation.frame.seeds import named_generator
from permeation.meaning.bootstrap import exchanges
from permeation.meaning.factors import WordResiduals
from permeation.meaning.sigma import order_parameter, unit

Sigmas = list[Float[np.ndarray, "draws _prompts layers"]]
NullModel = Callable[[Sequence[WordResiduals], int, np.random.Generator], Sigmas]


def senses_shuffled(words: Sequence[WordResiduals], draws: int, rng: np.random.Generator) -> Sigmas:
    """The two prompts of a pair, at one place of the lists, change senses at random: an exact permutation test.

    Where the senses mean nothing all labellings are alike. Pairs stay pairs: they may be matched in all but the sense.
    It does not show σ without meaning: a random part holds a few more prompts of A than of B, or the reverse, and that
    surplus alone turns the normalised contrast towards ± the real one.
    """
    return [word.exchanged(exchanges(len(word.sense_a), len(word.sense_b), draws, rng)) for word in words]


def random_halves(counts: Sequence[int], draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draws prompts"]:
    """Weights that contrast a random half of each list of prompts with the rest of it."""
    halves = []
    for count in counts:
        places = rng.permuted(np.tile(np.arange(count), (draws, 1)), axis=1)
        half = count // 2
        halves.append(np.where(places < half, 0.5 / half, -0.5 / (count - half)))
    return np.concatenate(halves, axis=1)


def within_senses(words: Sequence[WordResiduals], draws: int, rng: np.random.Generator) -> Sigmas:
    """ê is the contrast of two random halves that weigh A and B alike: all that tells prompts apart but the sense.

    It is no test: balanced labellings are no group, so p-values from it are too small (Southworth et al., 2009).
    """
    return [word.sigma(random_halves((len(word.sense_a), len(word.sense_b)), draws, rng)) for word in words]


def random_direction(words: Sequence[WordResiduals], draws: int, rng: np.random.Generator) -> Sigmas:
    """ê uniform on the sphere."""
    directions = (unit(rng.standard_normal((draws, word.measured.shape[-1]))) for word in words)
    return [order_parameter(word.measured, own) for word, own in zip(words, directions, strict=True)]


def another_word(words: Sequence[WordResiduals], draws: int, rng: np.random.Generator) -> Sigmas:
    """ê is the contrast of another word, drawn from the others; there must be at least two words."""
    directions = np.stack([word.directions(word.weights) for word in words])
    others = [np.delete(directions, i, axis=0)[rng.integers(len(words) - 1, size=draws)] for i in range(len(words))]
    return [order_parameter(word.measured, drawn) for word, drawn in zip(words, others, strict=True)]


NULLS: dict[str, NullModel] = {
    each.__name__: each for each in (senses_shuffled, within_senses, random_direction, another_word)
}


def draw_null(name: str, words: Sequence[WordResiduals], draws: int, seed: int) -> Sigmas:
    """σ of one null model, from a generator that its name seeds."""
    return NULLS[name](words, draws, named_generator(seed, name))

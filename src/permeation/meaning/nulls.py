"""Null models: the same statistics where the words' senses mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from permeation.meaning.direction import contrast
from permeation.meaning.order_parameter import order_parameter
from permeation.meaning.universality import factorise


@dataclass(frozen=True)
class WordResiduals:
    """What σ of one word is made from.

    Attributes:
        sense_a, sense_b: residual stream of the direction prompts at the direction layer.
        gradient: residual stream of the gradient prompts at every layer.
    """

    sense_a: Float[np.ndarray, "prompts_a d_model"]
    sense_b: Float[np.ndarray, "prompts_b d_model"]
    gradient: Float[np.ndarray, "prompts layers d_model"]


def shuffled_g(words: Sequence[WordResiduals], rng: np.random.Generator) -> Float[np.ndarray, "words layers"]:
    """g of every word along a contrast between two random halves of its direction prompts.

    The prompts, the sizes of the halves and everything after the direction stay as they were; only which prompt
    stands for which sense is drawn anew, so whatever g keeps of its shape is not about the senses.
    """
    sigmas = []
    for word in words:
        pool = rng.permutation(np.concatenate([word.sense_a, word.sense_b]))
        direction = contrast(pool[: len(word.sense_a)], pool[len(word.sense_a) :])
        sigmas.append(order_parameter(word.gradient, direction))
    return factorise(sigmas).g

"""Prompts and residual streams with a sense that is known."""

from typing import Any

import numpy as np

from permeation.meaning.activations import Activations
from permeation.meaning.factors import WordResiduals
from permeation.meaning.words import CONDITIONS, Prompt

LAYERS, WIDTH = 5, 24
LEAN = {"A": 1.0, "B": -1.0, "strong_A": 0.8, "weak_A": 0.4, "neutral": 0.0, "weak_B": -0.4, "strong_B": -0.8}


def word_prompts(word: str, direction: int = 8, gradient: int = 4) -> list[Prompt]:
    """A word's prompts, all different."""
    lists = [("direction", sense, direction) for sense in "AB"] + [("condition", each, 2) for each in CONDITIONS]
    lists += [("gradient", sense, gradient) for sense in "AB"]
    return [
        Prompt(word, f"{role} {label} {rank} {word}", role, label, rank)
        for role, label, count in lists
        for rank in range(count)
    ]


TWO = [*word_prompts("one"), *word_prompts("two")]


def planted(prompts: list[Prompt], sense: float, seed: int = 0) -> Activations:
    """Streams of one length with a sense that grows with depth, along one axis a word, over noise before the word."""
    rng = np.random.default_rng(seed)
    axes = {word: rng.normal(size=WIDTH) for word in {p.word: None for p in prompts}}
    depth = np.linspace(0, 1, LAYERS) ** 2
    at_word = 1 + 0.3 * rng.normal(size=(len(prompts), 1, WIDTH)) * np.linspace(0.1, 1, LAYERS)[:, None]
    for i, prompt in enumerate(prompts):
        strength = LEAN[prompt.label] * ((prompt.rank + 1) / 4 if prompt.role == "gradient" else 1)
        at_word[i] += sense * strength * depth[:, None] * axes[prompt.word] / np.sqrt(WIDTH)
    before = rng.normal(size=at_word.shape)
    return Activations(tuple(prompts), at_word.astype(np.float32), before.astype(np.float32))


def with_sigma(sigma: Any, h: Any, rng: np.random.Generator) -> WordResiduals:
    """A word whose gradient prompts have these σ, up to the small spread of its direction prompts about one axis."""
    end = np.eye(WIDTH)[0] + 1e-3 * rng.normal(size=(16, WIDTH))
    across = rng.normal(size=(*sigma.shape, WIDTH - 1))
    across *= np.sqrt(1 - sigma**2)[..., None] / np.linalg.norm(across, axis=-1, keepdims=True)
    measured = np.concatenate([sigma[..., None], across], axis=-1)
    half = len(h) // 2
    return WordResiduals(end[:8], -end[8:], np.concatenate([measured, measured[[half - 1, -1]]]), (half, half, 1, 1), h)

"""Null models: σ where the senses mean nothing. Each gives an array (draws, folds, prompts, layers) per word."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from permeation.frame.errors import PermeationError
from permeation.meaning.factors import WordResiduals, folds_of
from permeation.meaning.seeds import named_generator
from permeation.meaning.sigma import unit

Sigmas = list[Float[np.ndarray, "draws folds _prompts layers"]]
NullModel = Callable[[Sequence[WordResiduals], str, int, np.random.Generator], Sigmas]


def shuffled_directions(
    word: WordResiduals, field: str, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws folds d_model"]:
    """Contrasts in which the prompts of A and B at the same place of their lists change places at random.

    Such a pair may be matched in all but the sense (the shipped ones share their last words), and stays so.
    """
    weights = word.contrast_weights(folds_of(field))
    a, b = len(word.sense_a), len(word.sense_b)
    orders = np.tile(np.arange(a + b), (draws, 1))
    pairs = np.arange(min(a, b))
    swap = rng.integers(2, size=(draws, len(pairs))).astype(bool)
    orders[:, pairs], orders[:, a + pairs] = np.where(swap, a + pairs, pairs), np.where(swap, pairs, a + pairs)
    return word.directions(weights[:, orders].swapaxes(0, 1))


def senses_shuffled(words: Sequence[WordResiduals], field: str, draws: int, rng: np.random.Generator) -> Sigmas:
    """Which direction prompt of a pair stands for which sense is drawn anew.

    The prompts, the sizes of the parts and everything after the direction stay as they were. Where the senses mean
    nothing all labellings are alike, so this is an exact permutation test. It does not show σ without meaning, though:
    a random part holds a few more prompts of A than of B, or the reverse. Where prompts differ mostly in sense, that
    surplus alone turns the normalised contrast towards ± the real one.
    """
    return [word.sigma(shuffled_directions(word, field, draws, rng)) for word in words]


def within_senses(words: Sequence[WordResiduals], field: str, draws: int, rng: np.random.Generator) -> Sigmas:
    """ê is the contrast of two random parts that weigh A and B alike: all that tells prompts apart but the sense.

    Half of the prompts of A and half of those of B are set against the rest, each sense with weight 1/2 on both sides.
    The senses' difference cancels in the direction prompts' means, so this shows σ without any sense in ê. It is a
    description and no test: balanced labellings are no group, so p-values from it are too small (Southworth et al.,
    2009). The test is `senses_shuffled`.
    """
    sigmas = []
    for word in words:
        real = word.contrast_weights(folds_of(field))
        weights = np.zeros((draws, *real.shape))
        for fold, row in enumerate(real):
            for members in (np.flatnonzero(row > 0), np.flatnonzero(row < 0)):
                if (half := len(members) // 2) == 0:
                    raise PermeationError(
                        f"response.field is {field}, which makes two directions of a word's direction prompts, and a "
                        "word has a single prompt of a sense for one of them; accepted: at least 4 prompts of each "
                        "sense, or another field"
                    )
                places = rng.permuted(np.tile(np.arange(len(members)), (draws, 1)), axis=1)
                weights[:, fold, members] = np.where(places < half, 0.5 / half, -0.5 / (len(members) - half))
        sigmas.append(word.sigma(word.directions(weights)))
    return sigmas


def random_direction(words: Sequence[WordResiduals], field: str, draws: int, rng: np.random.Generator) -> Sigmas:
    """ê uniform on the sphere. (ê has norm 1, whatever the norm of the contrast.)"""
    return [word.sigma(_sphere(word, field, draws, rng)) for word in words]


def free_walk(words: Sequence[WordResiduals], field: str, draws: int, rng: np.random.Generator) -> Sigmas:
    """Every prompt's residual stream is a random walk from the embedding that the word's prompts share.

    Kept: the mean embedding, and the norm of each prompt's own step at each layer, ‖φ(l) − φ(l − 1)‖.
    Random: each step's direction, uniform in d_model dimensions and independent of all others, so that nothing but
    the embedding is common to two prompts. ê as in `random_direction`: the direction prompts walk too, and the
    difference of two means of such walks points anywhere with equal probability.
    """
    return [
        _walk(np.zeros_like(word.measured[0]) + word.measured[:, 0].mean(axis=0), word.measured, field, draws, rng)
        for word in words
    ]


def walk_about_mean(words: Sequence[WordResiduals], field: str, draws: int, rng: np.random.Generator) -> Sigmas:
    """Every prompt's residual stream is the word's mean path plus a random walk: drift is kept whole.

    Kept: the mean over the word's measured prompts, layer by layer (what all prompts share), and the norm of each
    prompt's own step away from it, ‖δ(l) − δ(l − 1)‖ with δ = φ − mean. Random: as in `free_walk`.
    """
    sigmas = []
    for word in words:
        path = word.measured.mean(axis=0)
        sigmas.append(_walk(path, word.measured - path, field, draws, rng))
    return sigmas


def another_word(words: Sequence[WordResiduals], field: str, draws: int, rng: np.random.Generator) -> Sigmas:
    """ê is the contrast of another word, drawn from the others; there must be at least two words."""
    own = [word.directions(word.contrast_weights(folds_of(field))) for word in words]
    sigmas = []
    for i, word in enumerate(words):
        others = word.sigma(np.stack([direction for j, direction in enumerate(own) if j != i]))
        sigmas.append(others[rng.integers(len(others), size=draws)])
    return sigmas


NULLS: dict[str, NullModel] = {
    "senses_shuffled": senses_shuffled,
    "within_senses": within_senses,
    "random_direction": random_direction,
    "free_walk": free_walk,
    "walk_about_mean": walk_about_mean,
    "another_word": another_word,
}


def draw_null(name: str, words: Sequence[WordResiduals], field: str, draws: int, seed: int) -> Sigmas:
    """σ of one null model, from a generator that its name seeds.

    With one word only there is no `another_word`.
    """
    return NULLS[name](words, field, draws, named_generator(seed, name))


def null_names(words: int) -> list[str]:
    """The null models that so many words have."""
    return [name for name in NULLS if words > 1 or name != "another_word"]


def common_and_sense(
    word: WordResiduals, sigma: Float[np.ndarray, "draws folds prompts layers"]
) -> tuple[Float[np.ndarray, "draws layers"], Float[np.ndarray, "draws layers"]]:
    """σ of the strong conditions split in two, per layer.

    common = (σ(strong_A) + σ(strong_B)) / 2, which moves without telling the senses apart, and
    sense = (σ(strong_A) − σ(strong_B)) / 2, so that strong_A is common + sense and strong_B is common − sense.
    """
    a, b = word.counts[2:]
    over_folds = sigma.mean(axis=1)
    strong_a, strong_b = over_folds[:, -(a + b) : -b].mean(axis=1), over_folds[:, -b:].mean(axis=1)
    return (strong_a + strong_b) / 2, (strong_a - strong_b) / 2


def excess(sense: Float[np.ndarray, "layers"], null: Float[np.ndarray, "draws layers"]) -> Float[np.ndarray, "layers"]:
    """The share of the squared sense part that the null does not give: max(0, 1 − ⟨null²⟩ / sense²), per layer."""
    square = np.square(sense)
    expected = np.square(null).mean(axis=0)
    return 1 - np.divide(expected, square, out=np.ones_like(square), where=square > expected)


def lasting_depth(passed: Bool[np.ndarray, "layers"]) -> float | None:
    """The depth l/L from which on every layer has passed; None where the last has not."""
    if not passed[-1]:
        return None
    failed = np.flatnonzero(~passed)
    return float((failed[-1] + 1 if len(failed) else 0) / (len(passed) - 1))


def _walk(
    path: Float[np.ndarray, "layers d_model"],
    like: Float[np.ndarray, "prompts layers d_model"],
    field: str,
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draws folds prompts layers"]:
    """σ of walks about `path` whose steps have the norms of the steps of `like`.

    σ depends on inner products alone. Those of random vectors, with fixed ones and with each other, can be drawn
    exactly without d_model coordinates (Bartlett's decomposition). In an orthonormal basis that starts with the span of
    the fixed vectors, the k-th random vector has normal coordinates along all before it and one more, √χ² of the
    remaining degrees of freedom.
    """
    folds, layers, d_model = folds_of(field), *path.shape
    fixed = np.linalg.qr(path.T.astype(np.float64))[1].T  # the path in an orthonormal basis of its span
    known = fixed.shape[1] + folds
    directions = _random_vectors((draws,), folds, fixed.shape[1], d_model, rng)
    norms = np.linalg.norm(np.diff(like, axis=1), axis=-1)
    walk = _random_vectors((draws, len(like)), layers - 1, known, d_model, rng)
    walk *= (norms / np.linalg.norm(walk, axis=-1))[..., None]
    np.cumsum(walk, axis=-2, out=walk)
    walk[..., : fixed.shape[1]] += fixed[1:].astype(np.float32)
    start = np.zeros((draws, len(like), 1, walk.shape[-1]), np.float32)
    start[..., : fixed.shape[1]] = fixed[0]
    walk = np.concatenate([start, walk], axis=-2)
    along = unit(directions).astype(np.float32)
    return np.einsum("dplc,dfc->dfpl", unit(walk)[..., :known], along, optimize=True).astype(np.float64)


def _random_vectors(
    shape: tuple[int, ...], count: int, known: int, d_model: int, rng: np.random.Generator
) -> Float[np.ndarray, "*shape count coordinates"]:
    """`count` independent standard normal vectors, by their coordinates along `known` axes and `count` new ones."""
    vectors = rng.standard_normal((*shape, count, known + count), dtype=np.float32)
    vectors[..., known:] = np.tril(vectors[..., known:], k=-1)
    freedom = d_model - known - np.arange(count)
    index = np.arange(count)
    vectors[..., index, known + index] = np.sqrt(rng.chisquare(freedom, (*shape, count)))
    return vectors


def _sphere(
    word: WordResiduals, field: str, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws folds d_model"]:
    return unit(rng.standard_normal((draws, folds_of(field), word.measured.shape[-1])))

"""σ(l, h) = h · f_max(word) · g(l/L): the factors of each word, and what the product explains.

h is the strength of a context and f(l) the slope of σ(l) on it: Σ(h − h̄)(σ − σ̄) / Σ(h − h̄)². f_max is the slope of
largest size over the layers, with its sign, and g = f / f_max (docs/meaning.md, h, f and g).

Leading axes, where there are any, are independent draws: of a null model, of a bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations, direction_pairs, graded_words
from permeation.meaning.laws import power_exponent
from permeation.meaning.sigma import check_contrast, order_parameter, unit
from permeation.meaning.words import SENSES, select

FIELDS = ("final", "rank")
FOLDS = 5  # into which the sentences of a table are cut


def context_field(
    sigma: Float[np.ndarray, "*draws prompts layers"], rank: Float[np.ndarray, "*any prompts"], field: str
) -> Float[np.ndarray, "*draws prompts"]:
    """h of each gradient prompt, in [−1, 1].

    `final`: σ(L) / max |σ(L)|, as published; σ(L) is then h by construction. `rank`: the prompt's place in its list;
    nothing measured enters.
    """
    if field == "rank":
        return np.broadcast_to(rank, sigma.shape[:-1])
    return sigma[..., -1] / np.abs(sigma[..., -1]).max(axis=-1, keepdims=True)


def slope(
    h: Float[np.ndarray, "*draws prompts"], sigma: Float[np.ndarray, "*draws prompts layers"]
) -> Float[np.ndarray, "*draws layers"]:
    """f: the least-squares slope of σ(l) on h, for all layers and draws at once; cosine per unit of h."""
    offset = h - h.mean(axis=-1, keepdims=True)
    return (offset[..., None, :] @ sigma)[..., 0, :] / np.square(offset).sum(axis=-1, keepdims=True)


def largest(f: Float[np.ndarray, "*curves layers"]) -> Float[np.ndarray, "*curves"]:
    """f_max.

    It was published as the largest slope. That is the same for all real words; along a direction without sense, whose
    sign means nothing, all slopes may be negative, and the largest is then rounding at the embedding.
    """
    return np.take_along_axis(f, np.abs(f).argmax(axis=-1)[..., None], axis=-1)[..., 0]


def normalised(f: Float[np.ndarray, "*curves layers"]) -> Float[np.ndarray, "*curves layers"]:
    """g = f / f_max; 0 where σ answers to h at no layer."""
    f_max = largest(f)[..., None]
    return np.divide(f, f_max, out=np.zeros_like(f), where=f_max != 0)


@dataclass(frozen=True)
class WordResiduals:
    """What a word's σ and g are made from.

    Attributes:
        sense_a, sense_b: its direction prompts, at the layer that ê comes from.
        measured: gradient prompts of A and of B, then strong_A and strong_B. counts: how many of each of these four.
        rank: each gradient prompt's place in its list, (rank + 1) / n for A and −(rank + 1) / n for B.
    """

    sense_a: Float[np.ndarray, "prompts_a d_model"]
    sense_b: Float[np.ndarray, "prompts_b d_model"]
    measured: Float[np.ndarray, "prompts layers d_model"]
    counts: tuple[int, int, int, int]
    rank: Float[np.ndarray, "gradient"]

    @property
    def weights(self) -> Float[np.ndarray, "direction_prompts"]:
        """The weights that make ê: 1/n for A, −1/n for B."""
        a, b = len(self.sense_a), len(self.sense_b)
        return np.repeat([1 / a, -1 / b], [a, b])

    def directions(self, weights: Float[np.ndarray, "*draws direction_prompts"]) -> Float[np.ndarray, "*draws d_model"]:
        """Unit vectors along weighted sums of the direction prompts, sense A first."""
        return unit(weights @ np.concatenate([self.sense_a, self.sense_b]).astype(np.float64))

    def sigma(
        self, directions: Float[np.ndarray, "*draws d_model"] | None = None
    ) -> Float[np.ndarray, "*draws prompts layers"]:
        """σ of the measured prompts along each direction; by default along ê."""
        return order_parameter(self.measured, self.directions(self.weights) if directions is None else directions)

    def crossed(
        self, weights: Float[np.ndarray, "*draws direction_prompts"]
    ) -> Float[np.ndarray, "*draws prompts layers"]:
        """σ along the direction that these weights of the direction prompts make."""
        return self.sigma(self.directions(weights))

    def exchanged(
        self, orders: Int[np.ndarray, "draws direction_prompts"]
    ) -> Float[np.ndarray, "draws prompts layers"]:
        """σ with the senses of the direction prompts exchanged."""
        return self.crossed(self.weights[orders])

    def split(self, sigma: Float[np.ndarray, "*draws prompts layers"]) -> list[Float[np.ndarray, "*draws _ layers"]]:
        """σ of the gradient prompts, of strong_A and of strong_B."""
        a, b, strong_a, _ = self.counts
        return np.split(sigma, [a + b, a + b + strong_a], axis=-2)

    def half(self, first: int) -> WordResiduals:
        """Every other pair of direction prompts and every other gradient prompt of each sense, the rank kept."""
        a, b, *_ = self.counts
        kept = [*range(first, a, 2), *range(a + first, a + b, 2)]
        return replace(
            self,
            sense_a=self.sense_a[first::2],
            sense_b=self.sense_b[first::2],
            measured=self.measured[kept],
            counts=(len(range(first, a, 2)), len(range(first, b, 2)), 0, 0),
            rank=self.rank[kept],
        )


@dataclass(frozen=True)
class Sentences(WordResiduals):
    """A word's labelled sentences, as many of A as of B: they make ê, and are measured along an ê from other sentences.

    The sentences at places i, i + 5, i + 10, … of the two lists are a fold, measured along the direction of the others.
    """

    def sigma(
        self, directions: Float[np.ndarray, "*draws d_model"] | None = None
    ) -> Float[np.ndarray, "*draws prompts layers"]:
        """σ of the sentences along each direction; by default each along that of the other folds."""
        return self.crossed(self.weights) if directions is None else super().sigma(directions)

    def crossed(
        self, weights: Float[np.ndarray, "*draws direction_prompts"]
    ) -> Float[np.ndarray, "*draws prompts layers"]:
        """σ of each fold along the contrast of the other folds' means; the sign of a weight is the sense."""
        fold = np.tile(np.arange(len(self.sense_a)) % FOLDS, 2)
        found = np.empty((*weights.shape[:-1], *self.measured.shape[:2]))
        for each in range(min(FOLDS, len(self.sense_a))):
            kept = weights * (fold != each)
            a, b = (np.maximum(sign * kept, 0) for sign in (1, -1))
            a, b = (side / np.maximum(side.sum(axis=-1, keepdims=True), 1e-12) for side in (a, b))
            held = fold == each
            found[..., held, :] = order_parameter(self.measured[held], self.directions(a - b))
        return found

    def exchanged(
        self, orders: Int[np.ndarray, "draws direction_prompts"]
    ) -> Float[np.ndarray, "draws prompts layers"]:
        """σ with the labels exchanged, in the direction and in h: the sentences in the order of their new labels."""
        return np.take_along_axis(super().exchanged(orders), orders[..., None], axis=-2)

    def split(self, sigma: Float[np.ndarray, "*draws prompts layers"]) -> list[Float[np.ndarray, "*draws _ layers"]]:
        """σ of all sentences, of those of A, and of those of B."""
        return [sigma, *np.split(sigma, 2, axis=-2)]


def _sentences(residuals: Any, pairs: Sequence[tuple[int, int]], layer: int) -> Sentences:
    a, b = (residuals[[pair[sense] for pair in pairs]] for sense in range(2))
    n = len(pairs)
    return Sentences(a[:, layer], b[:, layer], np.concatenate([a, b]), (n, n, 0, 0), np.repeat([1.0, -1.0], n))


def word_residuals(activations: Activations, layer: int, place: str = "at_word") -> dict[str, WordResiduals]:
    """Every graded word's part of the activations at one of PLACES, ê from `layer`; of a table, every word's.

    Raises PermeationError where no word has a gradient, or one has no contrast.
    """
    residuals = activations.at(place)
    prompts, found = activations.prompts, {}
    if activations.labelled:
        return {word: _sentences(residuals, pairs, layer) for word, pairs in direction_pairs(prompts).items()}
    for word in graded_words(prompts):
        measured = [
            *(select(prompts, word, "gradient", sense) for sense in SENSES),
            *(select(prompts, word, "condition", f"strong_{sense}") for sense in SENSES),
        ]
        a, b, strong_a, strong_b = map(len, measured)
        found[word] = WordResiduals(
            sense_a=residuals[select(prompts, word, "direction", "A"), layer],
            sense_b=residuals[select(prompts, word, "direction", "B"), layer],
            measured=residuals[[i for part in measured for i in part]],
            counts=(a, b, strong_a, strong_b),
            rank=np.concatenate([np.arange(1, a + 1) / a, -np.arange(1, b + 1) / b]),
        )
        check_contrast(word, found[word].sense_a, found[word].sense_b)
    if not found:
        raise PermeationError("no word of the words file has gradient prompts of both senses, which g is made from")
    return found


@dataclass(frozen=True)
class Factors:
    """The factors of a set of words. Every mean over words is weighted by `weights`.

    Attributes:
        h: of each word's gradient prompts. f: a row a word.
        separation: σ(L) of strong_A − σ(L) of strong_B.
        weights: how often each word counts, as a bootstrap over words draws it.
        decomposition_r2: share of σ's variance, pooled over the words, that h · f_max · g̅ explains, with g̅ the mean
            over the *other* words. Negative where a constant would do better.
        decomposition_r2_drift_out: the same with each word's mean over its prompts taken out of σ and of the product
            at every layer: the drift that all prompts of a word share, which a product cannot express.
    """

    h: tuple[Float[np.ndarray, "*draws _"], ...]
    f: Float[np.ndarray, "*draws words layers"]
    separation: Float[np.ndarray, "*draws words"]
    weights: Real[np.ndarray, "*#draws words"]
    decomposition_r2: Any
    decomposition_r2_drift_out: Any

    @property
    def g(self) -> Float[np.ndarray, "*draws words layers"]:
        """f / f_max."""
        return normalised(self.f)

    @property
    def mean_g(self) -> Float[np.ndarray, "*draws layers"]:
        """g averaged over the words."""
        return (self.weights[..., None] * self.g).sum(axis=-2) / self.weights.sum(axis=-1)[..., None]

    def statistics(self, exclude_final: int) -> dict[str, Any]:
        """The headline figures of each draw; those that compare words are left out where there is one word only.

        peak_depth, final_drop: where the mean g is largest, and what share of that it has lost at L.
        increment_correlation_mean: of g(l) − g(l − 1). Any two curves that rise from 0 to 1 correlate; their steps need
        not. The last step is left out: it is several times any other.
        Raises PermeationError where what is left without the final layers does not determine the exponent alpha.
        """
        g, mean_g, weights, n_layers = self.g, self.mean_g, self.weights, self.f.shape[-1] - 1
        if (left := n_layers - exclude_final) < 2:
            raise PermeationError(
                f"g.exclude_final is {exclude_final}, which leaves {max(left, 0)} of this model's {n_layers} layers; "
                "the exponent of g needs at least 2"
            )
        inner = slice(left + 1)
        found = {
            "peak_depth": mean_g.argmax(axis=-1) / n_layers,
            "final_drop": 1 - mean_g[..., -1] / mean_g.max(axis=-1),
            "alpha": power_exponent(np.linspace(0, 1, n_layers + 1)[inner], mean_g[..., inner]),
            "decomposition_r2": self.decomposition_r2,
            "decomposition_r2_drift_out": self.decomposition_r2_drift_out,
            "f_max_mean": (weights * largest(self.f)).sum(axis=-1) / weights.sum(axis=-1),
            "separation_mean": (weights * self.separation).sum(axis=-1) / weights.sum(axis=-1),
        }
        if g.shape[-2] == 1:
            return found
        first, second = np.triu_indices(g.shape[-2], k=1)
        pairs = weights[..., first] * weights[..., second]
        alike, steps = pairwise_correlation(g), pairwise_correlation(np.diff(g[..., :-1], axis=-1))
        return found | {
            "word_correlation_mean": (pairs * alike).sum(axis=-1) / pairs.sum(axis=-1),
            "word_correlation_min": np.where(pairs > 0, alike, np.inf).min(axis=-1),
            "increment_correlation_mean": (pairs * steps).sum(axis=-1) / pairs.sum(axis=-1),
        }


def factorise(
    words: Sequence[WordResiduals],
    sigmas: Sequence[Float[np.ndarray, "*draws _prompts layers"]],
    field: str,
    weights: Real[np.ndarray, "*#draws words"] | None = None,
    ranks: Sequence[Float[np.ndarray, "..."]] | None = None,
) -> Factors:
    """Fit the factors to the words' σ; every word counts once unless weighted.

    field: how h is made. ranks: of each draw's prompts, where these were drawn anew.
    """
    weights = np.ones(len(words)) if weights is None else weights
    parts = [word.split(sigma) for word, sigma in zip(words, sigmas, strict=True)]
    ranks = [word.rank for word in words] if ranks is None else ranks
    h = tuple(context_field(graded, rank, field) for (graded, *_), rank in zip(parts, ranks, strict=True))
    f = np.stack([slope(own, graded) for own, (graded, *_) in zip(h, parts, strict=True)], axis=-2)
    shared = largest(f)[..., None] * leave_one_out_mean(normalised(f), weights)
    sums = np.zeros((6, *f.shape[:-2]))
    for i, (own, (graded, *_)) in enumerate(zip(h, parts, strict=True)):
        missed = graded - own[..., None] * shared[..., i, None, :]
        values = (np.ones_like(graded), graded, graded**2, missed**2, _drift_out(graded) ** 2, _drift_out(missed) ** 2)
        sums += weights[..., i] * np.stack([value.sum(axis=(-2, -1)) for value in values])
    count, total, square, left, moving, moving_left = sums
    ends = [a[..., -1].mean(axis=-1) - b[..., -1].mean(axis=-1) for _, a, b in parts]
    return Factors(
        h, f, np.stack(ends, axis=-1), weights, 1 - left / (square - total**2 / count), 1 - moving_left / moving
    )


def factorise_words(words: Mapping[str, WordResiduals], field: str) -> Factors:
    """The factors of the words as they are."""
    return factorise(list(words.values()), [word.sigma() for word in words.values()], field)


def _drift_out(values: Float[np.ndarray, "*draws prompts layers"]) -> Float[np.ndarray, "*draws prompts layers"]:
    return values - values.mean(axis=-2, keepdims=True)


def leave_one_out_mean(
    g: Float[np.ndarray, "*draws words layers"], weights: Real[np.ndarray, "*#draws words"]
) -> Float[np.ndarray, "*draws words layers"]:
    """g̅ for each word from the other words only; where a draw holds no others, the word's own g serves."""
    others = weights[..., None, :] * (1 - np.eye(g.shape[-2]))
    alone = others.sum(axis=-1) == 0
    others = others + alone[..., None] * np.eye(g.shape[-2])
    return others @ g / others.sum(axis=-1)[..., None]


def pairwise_correlation(g: Float[np.ndarray, "*draws words layers"]) -> Float[np.ndarray, "*draws pairs"]:
    """Pearson correlation over layers between the curves of every pair of words; 0 with a curve that is constant."""
    offset = unit(g - g.mean(axis=-1, keepdims=True))
    first, second = np.triu_indices(g.shape[-2], k=1)
    return (offset @ np.swapaxes(offset, -1, -2))[..., first, second]

"""σ(l, h) = h · f_max(word) · g(l/L): the factors of each word, and what the product explains.

h is the strength of a context and f(l) the slope of σ(l) on it: Σ(h − h̄)(σ − σ̄) / Σ(h − h̄)². f_max is the slope of
largest size over the layers, with its sign, and g = f / f_max (docs/meaning.md, h, f and g).

Leading axes, where there are any, are independent draws: of a null model, of a bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations, direction_pairs, graded_words
from permeation.meaning.laws import power_exponent
from permeation.meaning.sigma import check_contrast, order_parameter, unit
from permeation.meaning.words import SENSES, select

Sigma = Float[np.ndarray, "*draws prompts layers"]
Curves = Float[np.ndarray, "*draws words layers"]

FIELDS = ("final", "rank")
FOLDS = 5  # into which the sentences of a table are cut


def context_field(
    sigma: Sigma, rank: Float[np.ndarray, "*any prompts"], field: str
) -> Float[np.ndarray, "*draws prompts"]:
    """h of each gradient prompt, in [−1, 1].

    `final`: σ(L) / max |σ(L)|, as published; σ(L) is then h by construction. `rank`: the prompt's place in its list;
    nothing measured enters.
    """
    if field == "rank":
        return np.broadcast_to(rank, sigma.shape[:-1])
    return sigma[..., -1] / np.abs(sigma[..., -1]).max(axis=-1, keepdims=True)


def slope(h: Float[np.ndarray, "*draws prompts"], sigma: Sigma) -> Float[np.ndarray, "*draws layers"]:
    """f: the least-squares slope of σ(l) on h, for all layers and draws at once; cosine per unit of h."""
    offset = h - h.mean(axis=-1, keepdims=True)
    return (offset[..., None, :] @ sigma)[..., 0, :] / np.square(offset).sum(axis=-1, keepdims=True)


def largest(f: Float[np.ndarray, "*curves layers"]) -> Float[np.ndarray, "*curves"]:
    """f_max; published as the largest slope, which along a direction without sense may be rounding at the embedding."""
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
        labelled: whether these are a table's sentences, as many of A as of B. They make ê and are measured, too: the
            sentences at places i, i + 5, i + 10, … of the two lists are a fold, measured along the ê of the others.
    """

    sense_a: Float[np.ndarray, "prompts_a d_model"]
    sense_b: Float[np.ndarray, "prompts_b d_model"]
    measured: Float[np.ndarray, "prompts layers d_model"]
    counts: tuple[int, int, int, int]
    rank: Float[np.ndarray, "gradient"]
    labelled: bool = False

    @property
    def weights(self) -> Float[np.ndarray, "direction_prompts"]:
        """The weights that make ê: 1/n for A, −1/n for B."""
        a, b = len(self.sense_a), len(self.sense_b)
        return np.repeat([1 / a, -1 / b], [a, b])

    def directions(self, weights: Float[np.ndarray, "*draws direction_prompts"]) -> Float[np.ndarray, "*draws d_model"]:
        """Unit vectors along weighted sums of the direction prompts, sense A first."""
        return unit(weights @ np.concatenate([self.sense_a, self.sense_b]).astype(np.float64))

    def sigma(self, weights: Float[np.ndarray, "*draws direction_prompts"] | None = None) -> Sigma:
        """σ of the measured prompts along the direction that these weights make; by default along ê.

        Of labelled sentences each fold is measured along the contrast of the other folds' means; the sign of a weight
        is the sense.
        """
        weights = self.weights if weights is None else weights
        if not self.labelled:
            return order_parameter(self.measured, self.directions(weights))
        fold = np.tile(np.arange(len(self.sense_a)) % FOLDS, 2)
        found = np.empty((*weights.shape[:-1], *self.measured.shape[:2]))
        for held in (fold == each for each in np.unique(fold)):
            sides = [np.maximum(sign * weights * ~held, 0) for sign in (1, -1)]
            a, b = (side / np.maximum(side.sum(axis=-1, keepdims=True), 1e-12) for side in sides)
            found[..., held, :] = order_parameter(self.measured[held], self.directions(a - b))
        return found

    def exchanged(self, orders: Int[np.ndarray, "draws direction_prompts"]) -> Sigma:
        """σ with the senses of the direction prompts exchanged; labels in h, too, so sentences come in a new order."""
        sigma = self.sigma(self.weights[orders])
        return np.take_along_axis(sigma, orders[..., None], axis=-2) if self.labelled else sigma

    def split(self, sigma: Sigma) -> list[Float[np.ndarray, "*draws _ layers"]]:
        """σ of the gradient prompts, of strong_A and of strong_B; of all sentences, of those of A and of B."""
        a, b, strong_a, _ = self.counts
        if self.labelled:
            return [sigma, *np.split(sigma, [a], axis=-2)]
        return np.split(sigma, [a + b, a + b + strong_a], axis=-2)

    def half(self, first: int) -> WordResiduals:
        """Every other pair of direction prompts and every other gradient prompt of each sense, the rank kept."""
        a, b, *_ = self.counts
        kept = [*range(first, a, 2), *range(a + first, a + b, 2)]
        return replace(
            self,
            sense_a=self.sense_a[first::2],
            sense_b=self.sense_b[first::2],
            measured=self.measured[[*kept, *range(a + b, len(self.measured))]],
            counts=(len(range(first, a, 2)), len(range(first, b, 2)), *self.counts[2:]),
            rank=self.rank[kept],
        )


def word_residuals(activations: Activations, layer: int, place: str = "at_word") -> dict[str, WordResiduals]:
    """Every graded word's part of the activations at one of PLACES, ê from `layer`; of a table, every word's.

    Raises PermeationError where no word has a gradient, or one has no contrast.
    """
    residuals, prompts = activations.at(place), activations.prompts
    found: dict[str, WordResiduals] = {}
    if activations.labelled:
        for word, pairs in direction_pairs(prompts).items():
            a, b = residuals[[*zip(*pairs, strict=True)]]
            n = len(pairs)
            rank = np.repeat([1.0, -1.0], n)
            found[word] = WordResiduals(a[:, layer], b[:, layer], np.concatenate([a, b]), (n, n, 0, 0), rank, True)
        return found
    for word in graded_words(prompts):
        lists = [select(prompts, word, "gradient", sense) for sense in SENSES]
        lists += [select(prompts, word, "condition", f"strong_{sense}") for sense in SENSES]
        a, b, strong_a, strong_b = map(len, lists)
        sense_a, sense_b = (residuals[select(prompts, word, "direction", sense), layer] for sense in SENSES)
        check_contrast(word, sense_a, sense_b)
        rank = np.concatenate([np.arange(1, a + 1) / a, -np.arange(1, b + 1) / b])
        measured = residuals[[i for part in lists for i in part]]
        found[word] = WordResiduals(sense_a, sense_b, measured, (a, b, strong_a, strong_b), rank)
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
    f: Curves
    separation: Float[np.ndarray, "*draws words"]
    weights: Real[np.ndarray, "*#draws words"]
    decomposition_r2: Any
    decomposition_r2_drift_out: Any

    @property
    def g(self) -> Curves:
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
            "f_max_mean": np.average(largest(self.f), axis=-1, weights=weights),
            "separation_mean": np.average(self.separation, axis=-1, weights=weights),
        }
        if g.shape[-2] == 1:
            return found
        first, second = np.triu_indices(g.shape[-2], k=1)
        pairs, increments = weights[..., first] * weights[..., second], np.diff(g[..., :-1], axis=-1)
        alike, steps = (correlations(each, each)[..., first, second] for each in (g, increments))
        return found | {
            "word_correlation_mean": (pairs * alike).sum(axis=-1) / pairs.sum(axis=-1),
            "word_correlation_min": np.where(pairs > 0, alike, np.inf).min(axis=-1),
            "increment_correlation_mean": (pairs * steps).sum(axis=-1) / pairs.sum(axis=-1),
        }


def factorise(
    words: Iterable[WordResiduals],
    field: str,
    sigmas: Sequence[Float[np.ndarray, "*draws _prompts layers"]] | None = None,
    weights: Real[np.ndarray, "*#draws words"] | None = None,
    ranks: Sequence[Float[np.ndarray, "..."]] | None = None,
) -> Factors:
    """Fit the factors to the words' σ; every word counts once unless weighted.

    field: how h is made. sigmas: of draws, by default the words' own σ. ranks: of each draw's prompts, where these were
    drawn anew.
    """
    words = list(words)
    sigmas = [word.sigma() for word in words] if sigmas is None else sigmas
    weights = np.ones(len(words)) if weights is None else weights
    parts = [word.split(sigma) for word, sigma in zip(words, sigmas, strict=True)]
    ranks = [word.rank for word in words] if ranks is None else ranks
    h = tuple(context_field(graded, rank, field) for (graded, *_), rank in zip(parts, ranks, strict=True))
    f = np.stack([slope(own, graded) for own, (graded, *_) in zip(h, parts, strict=True)], axis=-2)
    ends = [a[..., -1].mean(axis=-1) - b[..., -1].mean(axis=-1) for _, a, b in parts]
    shared = largest(f)[..., None] * leave_one_out_mean(normalised(f), weights)
    sums = np.zeros((6, *f.shape[:-2]))
    for i, (own, (graded, *_)) in enumerate(zip(h, parts, strict=True)):
        missed = graded - own[..., None] * shared[..., i, None, :]
        moving, moving_missed = (each - each.mean(axis=-2, keepdims=True) for each in (graded, missed))
        values = (np.ones_like(graded), graded, graded**2, missed**2, moving**2, moving_missed**2)
        sums += weights[..., i] * np.stack([value.sum(axis=(-2, -1)) for value in values])
    count, total, square, left, drift_out, drift_out_left = sums
    r2 = 1 - left / (square - total**2 / count), 1 - drift_out_left / drift_out
    return Factors(h, f, np.stack(ends, axis=-1), weights, *r2)


def leave_one_out_mean(g: Curves, weights: Real[np.ndarray, "*#draws words"]) -> Curves:
    """g̅ for each word from the other words only; where a draw holds no others, the word's own g serves."""
    others = weights[..., None, :] * (1 - np.eye(g.shape[-2]))
    alone = others.sum(axis=-1) == 0
    others = others + alone[..., None] * np.eye(g.shape[-2])
    return others @ g / others.sum(axis=-1)[..., None]


def correlations(x: Curves, y: Curves) -> Float[np.ndarray, "*draws words words"]:
    """Pearson correlation over layers of every curve of x with every curve of y; 0 with a curve that is constant."""
    x, y = (unit(each - each.mean(axis=-1, keepdims=True)) for each in (x, y))
    return x @ np.swapaxes(y, -1, -2)

"""Whether a prompt's sense can be read off along a direction that other prompts gave: AUC and d′ per layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from permeation.meaning.sigma import unit


@dataclass(frozen=True)
class Decoding:
    """How well one word's senses are told apart, per layer.

    Attributes:
        differences: score of a prompt of A minus score of one of B, for every pair.
        permuted: the AUC with the senses permuted.
    """

    differences: Float[np.ndarray, "a b layers"]
    permuted: Float[np.ndarray, "permutations layers"]

    @property
    def auc(self) -> Float[np.ndarray, "layers"]:
        """The share of pairs in which the prompt of A scores higher; ties count half."""
        return wins(self.differences).mean(axis=(0, 1))

    @property
    def d_prime(self) -> Float[np.ndarray, "layers"]:
        """d′ = √2 · mean / standard deviation of the differences: distance of the senses' means in units of the
        standard deviation within a sense; 0 where no two scores differ.
        """
        spread = self.differences.std(axis=(0, 1))
        mean = np.sqrt(2) * self.differences.mean(axis=(0, 1))
        return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)

    def bootstrap(self, resamples: int, rng: np.random.Generator) -> Float[np.ndarray, "resamples layers"]:
        """The AUC of resampled prompts: rows and columns of the table of pairs are drawn with replacement.

        The directions are those of the prompts as they are, so an interval from these leaves out their uncertainty.
        """
        table = wins(self.differences)
        a, b = (rng.multinomial(n, np.full(n, 1 / n), resamples) / n for n in table.shape[:2])
        return np.einsum("ra,rb,abl->rl", a, b, table, optimize=True)


def wins(differences: Float[np.ndarray, "*pairs layers"]) -> Float[np.ndarray, "*pairs layers"]:
    """1 where a difference is above 0, 1/2 where it is 0 (to rounding), else 0."""
    return (1 + np.sign(np.where(np.abs(differences) < 1e-9, 0, differences))) / 2


def leave_pair_out(
    residual: Float[np.ndarray, "prompts layers d_model"],
    source: Float[np.ndarray, "prompts #layers d_model"],
    is_a: Bool[np.ndarray, "prompts"],
    permutations: int,
    rng: np.random.Generator,
) -> Decoding:
    """Each pair (a_i, b_j) scored along the contrast of the prompts at other places of the two lists than i and j.

    Prompts at the same place may be matched in all but the sense (the shipped ones share their last words): the twin
    of a prompt, if it stayed, would pull its score to the other sense. The score is the cosine of `residual` with
    mean_A − mean_B of `source` over the prompts that stay. `source` is
    `residual` for the layer's own direction, or one layer's residuals for a direction that all layers share. Without
    senses the pair is exchangeable, so the expected AUC is exactly 1/2 (Airola et al., 2011), which pooled folds do
    not give.
    The differences are divided by the norm of the contrast of all prompts.

    All is had from one table per layer, G_ij = φ_i · ψ_j with φ the unit residual and ψ the source.
    """
    gram = np.moveaxis(unit(residual.astype(np.float64)), 0, 1) @ source.astype(np.float64).transpose(1, 2, 0)
    contrast = source[is_a].mean(axis=0, dtype=np.float64) - source[~is_a].mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(contrast, axis=-1)
    scale = np.where(norm > 1e-6 * np.linalg.norm(source, axis=-1).max(), norm, np.inf)
    a, b = np.flatnonzero(is_a), np.flatnonzero(~is_a)
    kept = _kept(len(a), len(b))
    real = _pair_differences(gram, a, b, kept) / scale
    permuted = np.stack(
        [
            wins(_pair_differences(gram, *pair, kept) / scale).mean(axis=(0, 1))
            for pair in swaps(a, b, permutations, rng)
        ]
    )
    return Decoding(real, permuted)


def held_out(
    residual: Float[np.ndarray, "prompts layers d_model"],
    direction: Float[np.ndarray, "#layers d_model"],
    is_a: Bool[np.ndarray, "prompts"],
    permutations: int,
    rng: np.random.Generator,
) -> Decoding:
    """Prompts scored by their cosine with a direction that none of them helped to make."""
    score = np.einsum("pld,pld->pl", unit(residual.astype(np.float64)), np.broadcast_to(direction, residual.shape))
    a, b = np.flatnonzero(is_a), np.flatnonzero(~is_a)
    table = score[:, None] - score
    permuted = np.stack([wins(table[np.ix_(*pair)]).mean(axis=(0, 1)) for pair in swaps(a, b, permutations, rng)])
    return Decoding(table[np.ix_(a, b)], permuted)


def swaps(
    a: Int[np.ndarray, "a"], b: Int[np.ndarray, "b"], permutations: int, rng: np.random.Generator
) -> Iterator[tuple[Int[np.ndarray, "a"], Int[np.ndarray, "b"]]]:
    """The two lists with the prompts at the same place exchanged or not, by the toss of a coin each."""
    pairs = min(len(a), len(b))
    for swap in rng.integers(2, size=(permutations, pairs)).astype(bool):
        new_a, new_b = a.copy(), b.copy()
        new_a[:pairs], new_b[:pairs] = np.where(swap, b[:pairs], a[:pairs]), np.where(swap, a[:pairs], b[:pairs])
        yield new_a, new_b


def p_values(
    auc: Float[np.ndarray, "layers"], permuted: Float[np.ndarray, "permutations layers"]
) -> tuple[Float[np.ndarray, "layers"], Float[np.ndarray, "layers"]]:
    """(1 + permutations with an AUC as large) / (1 + permutations): at the same layer, and at any layer.

    The second compares with each permutation's largest AUC over the layers, which holds the chance of one false alarm
    among all layers to the level.
    """
    at_layer = np.sum(permuted >= auc, axis=0)
    anywhere = np.sum(permuted.max(axis=1, keepdims=True) >= auc, axis=0)
    return (1 + at_layer) / (1 + len(permuted)), (1 + anywhere) / (1 + len(permuted))


def first_depth(auc: Float[np.ndarray, "layers"], threshold: float) -> float | None:
    """The depth l/L at which the AUC first reaches the threshold; None where it never does."""
    reached = np.flatnonzero(auc >= threshold)
    return float(reached[0] / (len(auc) - 1)) if len(reached) else None


def _kept(n_a: int, n_b: int) -> tuple[Float[np.ndarray, "a b a"], Float[np.ndarray, "a b b"]]:
    """For the pair (i, j): weights of the mean over A, and over B, of the places other than i and j."""
    i, j = np.arange(n_a)[:, None, None], np.arange(n_b)[None, :, None]
    kept = [((k != i) & (k != j)).astype(np.float64) for k in (np.arange(n_a), np.arange(n_b))]
    return kept[0] / kept[0].sum(axis=2, keepdims=True), kept[1] / kept[1].sum(axis=2, keepdims=True)


def _pair_differences(
    gram: Float[np.ndarray, "layers prompts prompts"],
    a: Int[np.ndarray, "a"],
    b: Int[np.ndarray, "b"],
    kept: tuple[Float[np.ndarray, "a b a"], Float[np.ndarray, "a b b"]],
) -> Float[np.ndarray, "a b layers"]:
    """(φ_a − φ_b) · (mean of the kept prompts of A − mean of the kept prompts of B), for every pair."""
    differences = np.zeros((len(a), len(b), len(gram)))
    for columns, weights, sign in ((a, kept[0], 1), (b, kept[1], -1)):
        part = gram[:, :, columns]
        # (layers, i, j): batched over i for the score of a, over j for that of b
        score_a = part[:, a].transpose(1, 0, 2) @ weights.transpose(0, 2, 1)
        score_b = part[:, b].transpose(1, 0, 2) @ weights.transpose(1, 2, 0)
        differences += sign * (score_a.transpose(0, 2, 1) - score_b.transpose(2, 0, 1))
    return differences

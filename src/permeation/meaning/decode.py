"""Whether a prompt's sense can be read off along a direction that other prompts gave: AUC and d′ per layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from permeation.meaning.sigma import unit

AT_ONCE = 4  # exchanges of senses, whose tables of pairs stand in memory together


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

    Prompts at the same place may be matched in all but the sense: the shipped ones share their last words. The twin of
    a prompt would pull its score to the other sense, so it is left out as well. The score is the cosine of `residual`
    with mean_A − mean_B of `source` over the prompts that stay. `source` is `residual` for the layer's own direction,
    or one layer's residuals for a direction that all layers share. The differences are divided by the norm of the
    contrast of all prompts.

    Without senses the two of a pair are exchangeable, so the expected AUC is exactly 1/2 (Airola et al., 2011). Pooled
    folds do not give that.

    Everything comes from one table per layer, G_xy = φ_x · ψ_y with φ the unit residual and ψ the source.
    """
    gram = np.moveaxis(unit(residual.astype(np.float64)), 0, 1) @ source.astype(np.float64).transpose(1, 2, 0)
    gram = np.ascontiguousarray(np.moveaxis(gram, 0, -1))
    contrast = source[is_a].mean(axis=0, dtype=np.float64) - source[~is_a].mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(contrast, axis=-1)
    scale = np.where(norm > 1e-6 * np.linalg.norm(source, axis=-1).max(), norm, np.inf)
    a, b = np.flatnonzero(is_a), np.flatnonzero(~is_a)

    def differences(orders: Int[np.ndarray, "draws prompts"]) -> Float[np.ndarray, "draws a b layers"]:
        return _pair_differences(gram[orders[:, :, None], orders[:, None, :]], len(a)) / scale

    (real,) = differences(np.concatenate([a, b])[None])
    return Decoding(real, _permuted_auc(differences, a, b, permutations, rng))


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

    def differences(orders: Int[np.ndarray, "draws prompts"]) -> Float[np.ndarray, "draws a b layers"]:
        drawn = score[orders]
        return drawn[:, : len(a), None] - drawn[:, None, len(a) :]

    (real,) = differences(np.concatenate([a, b])[None])
    return Decoding(real, _permuted_auc(differences, a, b, permutations, rng))


def swapped(
    a: Int[np.ndarray, "a"], b: Int[np.ndarray, "b"], draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "draws prompts"]:
    """Both lists, A first, with the prompts at the same place exchanged or not, by the toss of a coin each."""
    orders = np.tile(np.concatenate([a, b]), (draws, 1))
    pairs = min(len(a), len(b))
    swap = rng.integers(2, size=(draws, pairs)).astype(bool)
    orders[:, :pairs] = np.where(swap, b[:pairs], a[:pairs])
    orders[:, len(a) : len(a) + pairs] = np.where(swap, a[:pairs], b[:pairs])
    return orders


def _permuted_auc(
    differences: Callable[[Int[np.ndarray, "draws prompts"]], Float[np.ndarray, "draws a b layers"]],
    a: Int[np.ndarray, "a"],
    b: Int[np.ndarray, "b"],
    permutations: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "permutations layers"]:
    """The AUC of each exchange of senses; the table of pairs is made for some of them at a time."""
    orders = swapped(a, b, permutations, rng)
    parts = [orders[start : start + AT_ONCE] for start in range(0, permutations, AT_ONCE)]
    return np.concatenate([wins(differences(part)).mean(axis=(1, 2)) for part in parts])


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


def _pair_differences(
    gram: Float[np.ndarray, "draws prompts prompts layers"], n_a: int
) -> Float[np.ndarray, "draws a b layers"]:
    """(φ_i − φ_j) · (mean of A without the places i and j − mean of B without them), for every pair a_i, b_j.

    The first n_a prompts are those of A. The mean without two places is the whole sum less these two.
    """
    n_b = gram.shape[1] - n_a
    i, j = np.arange(n_a), np.arange(n_b)
    other = (i[:, None] != j)[..., None]
    differences = np.zeros((len(gram), n_a, n_b, gram.shape[-1]))
    for chosen, sign in ((slice(n_a), 1), (slice(n_a, None), -1)):
        columns = gram[:, :, chosen]
        n = columns.shape[2]
        # A place that the shorter list lacks adds nothing to a sum.
        columns = np.pad(columns, [(0, 0), (0, 0), (0, max(n_a, n_b) - n), (0, 0)])
        kept = n - (i[:, None, None] < n) - ((j[:, None] < n) & other)
        total = columns.sum(axis=2)
        score_a = total[:, :n_a, None] - columns[:, i, i][:, :, None] - other * columns[:, :n_a, :n_b]
        score_b = total[:, None, n_a:] - columns[:, n_a + j, j][:, None]
        score_b = score_b - other * columns[:, n_a:, :n_a].swapaxes(1, 2)
        differences += sign * (score_a - score_b) / kept
    return differences

"""All heads of a layer read the residual stream through one subspace: W ≈ P B, W = (W_Q W_K) side by side.

P is d_model × r, B is r × m with m = (heads + kv_heads) d_head. W̃ = P B leaves the coordinates of queries and keys
alone, so it is exact for rotary models too: positions act on W̃ᵀ x, whatever W̃ is made of. Biases stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from scipy.optimize import isotonic_regression
from torch import Tensor

from permeation.rivals.base import Numbers, Problem, bias_parameters
from permeation.rivals.score_error import squared_score_error
from permeation.weights.heads import Heads, gathered
from permeation.weights.moments import triangular_root

RANKS = 24  # ranks at which the score error is computed, to divide ranks among the layers


class Subspace(Numbers):
    """For rivals that are a product P B in each layer."""

    heads: Heads  # the untouched weights
    rank_numbers = 0  # numbers that say which rank each layer has; none where all have the same

    @property
    def smallest(self) -> int:
        """One dimension."""
        return 1

    @property
    def largest(self) -> int:
        """As of Rival."""
        raise NotImplementedError

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """P and Bᵀ of one layer after the other. Columns that are not kept are 0."""
        raise NotImplementedError

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """How many numbers the kept columns of all factors have, and how many columns these are."""
        raise NotImplementedError

    def apply(self, size: int) -> Heads:
        """The products of the factors."""
        return self.assembled(self.factors(size))

    def assembled(self, factors: Iterable[tuple[Tensor, Tensor]]) -> Heads:
        """The weights from P and Bᵀ of every layer."""
        return from_layer_matrices((P @ B_T.mT for P, B_T in factors), self.heads)


@dataclass(frozen=True)
class LayerSubspace(Subspace):
    """Every layer reads through an r-dimensional subspace of its own.

    By the SVD of S^½ W: of all matrices of rank r, P B has the least E ‖(W − P B)ᵀ x‖² (Eckart and Young). Stored:
    Σ_layers [r (d_model + m − r) + min(r, d_model − r)] + biases; at r = min(d_model, m) the model is back. Half of
    d_model is more than half of the storage: of SmolLM2's 576 × 768 numbers a layer, r = 288 keeps 69 %.

    `equal`: size r is the rank of all layers. `greedy`: size t is the sum of the ranks, divided among the layers so
    that the mean squared error of all attention scores (score_error) falls fastest; each layer's rank is one more
    number.

    Attributes:
        heads: the untouched weights. P, B: at full rank, the leading directions first.
        gain: by how much a direction lets the error fall, never more than the one before it.
        greedy: keep the directions of largest gain in all layers, instead of as many of each.
    """

    heads: Heads
    P: Float[Tensor, "layers d_model rank"]
    B: Float[Tensor, "layers rank columns"]
    gain: Float[Tensor, "layers rank"]
    greedy: bool

    @classmethod
    def fit(cls, problem: Problem, metric: Literal["score", "random"] = "score", greedy: bool = False) -> LayerSubspace:
        """One eigendecomposition a layer; `random`: a uniformly random subspace, and B the least-squares fit to W."""
        generator = torch.Generator().manual_seed(problem.seed)

        def directions(layer: Problem) -> tuple[Tensor, Tensor, Tensor]:
            W = layer_matrices(layer.heads)
            if metric == "score":
                P, B = leading_directions(W, layer.moments.shrunk)
            else:
                P = torch.linalg.qr(torch.randn(1, W.shape[1], W.shape[1], dtype=W.dtype, generator=generator)).Q
                B = P.mT @ W
            return P, B, gains(layer, P, B) if greedy else torch.ones_like(P[:, 0])

        P, B, gain = gathered(map(directions, problem.layers()), len(problem.heads.W_Q))
        return cls(problem.heads, P, B, gain, greedy)

    @property
    def largest(self) -> int:
        """The rank of W; greedy: the sum of all ranks."""
        return self.gain.numel() if self.greedy else self.P.shape[2]

    @property
    def rank_numbers(self) -> int:  # type: ignore[override]
        """A number a layer, where greedy."""
        return len(self.P) if self.greedy else 0

    def stored_parameters(self, size: int) -> int:
        rows, columns = self.P.shape[1], self.B.shape[2]
        ranks = [int(rank) for rank in self._kept(size).sum(1)]
        total = sum(low_rank_parameters(rows, columns, rank) for rank in ranks)
        return total + self.rank_numbers + bias_parameters(self.heads)

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """P and Bᵀ of each layer, their columns 0 beyond the layer's rank."""
        kept = self._kept(size)
        most = int(kept.sum(1).max())
        for P, B, each in zip(self.P.split(1), self.B.split(1), kept[:, None, :most].split(1), strict=True):
            yield P[:, :, :most] * each, B[:, :most].mT * each

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """Σ ranks (d_model + m) numbers in 2 Σ ranks columns."""
        ranks = size if self.greedy else size * len(self.P)
        return ranks * (self.P.shape[1] + self.B.shape[2]), 2 * ranks

    def _kept(self, size: int) -> Float[Tensor, "layers rank"]:
        """1 where a direction is kept: the first `size` of each layer, or (greedy) those of largest gain."""
        if not self.greedy:
            return (torch.arange(self.gain.shape[1]) < size).to(self.gain).expand_as(self.gain)
        kept = torch.zeros_like(self.gain).flatten()
        kept[self.gain.flatten().argsort(descending=True, stable=True)[:size]] = 1
        return kept.view_as(self.gain)


@dataclass(frozen=True)
class SharedSubspace(Subspace):
    """Neighbouring layers read through one r-dimensional subspace (basis sharing, Wang et al. 2024).

    P of a group of layers has the leading left singular vectors of their S̄^½ W side by side, mapped back by S̄^−½,
    with S̄ the mean of S over the group: one subspace needs one metric. Given P, each layer's B = (Pᵀ S P)⁻¹ Pᵀ S W is
    the least-squares fit in that layer's own metric. Stored: groups [r (d_model − r) + min(r, d_model − r)] for the Ps
    (r rows of a basis can be made the identity) and layers r m for the Bs, + biases.

    Attributes:
        problem: the untouched weights and the moments. step: layers in a group.
        P: all d_model directions of each group, the leading first.
    """

    problem: Problem
    step: int
    P: Float[Tensor, "groups d_model d_model"]

    @classmethod
    def fit(cls, problem: Problem, layers: int | None = None) -> SharedSubspace:
        """One eigendecomposition of Σ S̄^½ W Wᵀ S̄^½ for each group of so many `layers`; None: for the whole model."""
        count = len(problem.heads.W_Q)
        P, step = [], layers or count
        for first in range(0, count, step):
            group = problem.part(slice(first, first + step))
            S = reduce(torch.add, (layer.moments.shrunk for layer in group.layers())) / len(group.heads.W_Q)
            F = triangular_root(S)
            white = (F @ layer_matrices(layer.heads) for layer in group.layers())
            vectors = torch.linalg.eigh(reduce(torch.add, (each @ each.mT for each in white))).eigenvectors
            P.append(unwhitened(F, vectors.flip(2)))
        return cls(problem, step, torch.cat(P))

    @property
    def heads(self) -> Heads:  # type: ignore[override]
        """The untouched weights."""
        return self.problem.heads

    @property
    def largest(self) -> int:
        """d_model."""
        return self.P.shape[1]

    def stored_parameters(self, size: int) -> int:
        groups, d_model, _ = self.P.shape
        frame = size * (d_model - size) + min(size, d_model - size)
        weights = (self.heads.W_Q.numel() + self.heads.W_K.numel()) // d_model * size
        return groups * frame + weights + bias_parameters(self.heads)

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """P and Bᵀ of each layer."""
        for i, layer in enumerate(self.problem.layers()):
            P = self.P[i // self.step, None, :, :size]
            projected = P.mT @ layer.moments.shrunk
            yield P, torch.linalg.solve(projected @ P, projected @ layer_matrices(layer.heads)).mT

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """groups r d_model + layers r m numbers, in (groups + layers) r columns."""
        groups, layers = len(self.P), len(self.heads.W_Q)
        numbers = self.P.numel() + self.heads.W_Q.numel() + self.heads.W_K.numel()  # at full rank
        return size * numbers // self.P.shape[1], size * (groups + layers)


def layer_matrices(heads: Heads) -> Float[Tensor, "layers d_model columns"]:
    """A layer's W_Q and W_K of all heads side by side: everything that reads the layer's input."""
    return torch.cat([heads.W_Q, heads.W_K], dim=1).movedim(1, 2).flatten(2)


def from_layer_matrices(each: Iterable[Float[Tensor, "1 d_model columns"]], heads: Heads) -> Heads:
    """Undo `layer_matrices`, one layer after the other; precision and biases are those of `heads`."""
    layers, n_heads, _, d_head = heads.W_Q.shape
    by_head = (W.to(heads.W_Q.dtype).unflatten(2, (-1, d_head)).movedim(2, 1) for W in each)
    W_Q, W_K = gathered(((W[:, :n_heads], W[:, n_heads:]) for W in by_head), layers)
    return Heads(W_Q, W_K, heads.b_Q, heads.b_K)


def leading_directions(
    W: Float[Tensor, "layers d_model columns"], S: Float[Tensor, "layers d_model d_model"]
) -> tuple[Float[Tensor, "layers d_model rank"], Float[Tensor, "layers rank columns"]]:
    """P = F⁻¹ U and B = Uᵀ F W at full rank, the leading first: of rank r, P B is nearest to W in the metric S = Fᵀ F.

    U are the left singular vectors of F W: U Σ Vᵀ = U (Uᵀ F W).
    """
    F = triangular_root(S)
    white = F @ W
    U = torch.linalg.eigh(white @ white.mT).eigenvectors.flip(2)[:, :, : min(W.shape[1:])]
    return unwhitened(F, U), U.mT @ white


def unwhitened(F: Float[Tensor, "layers d d"], U: Float[Tensor, "layers d k"]) -> Float[Tensor, "layers d k"]:
    """F⁻¹ U of triangular F."""
    return torch.linalg.solve_triangular(F, U, upper=True)


def gains(
    layer: Problem, P: Float[Tensor, "1 d_model rank"], B: Float[Tensor, "1 rank columns"]
) -> Float[Tensor, "1 rank"]:
    """By how much each direction lets a layer's squared score error fall, spread evenly between RANKS computed ranks.

    Made falling from direction to direction (isotonic regression), so that a layer's first directions are kept first.
    """
    full = P.shape[2]
    ranks = [0, *sorted({round(full * i / RANKS) for i in range(1, RANKS + 1)} - {0})]
    products = ([P[:, :, :rank] @ B[:, :rank]] for rank in ranks)
    errors = torch.stack([squared_score_error(layer, from_layer_matrices(W, layer.heads)) for W in products])
    steps = torch.tensor(ranks).diff()
    falls = (-errors.diff() / steps).repeat_interleave(steps)
    return torch.from_numpy(isotonic_regression(falls.numpy(), increasing=False).x.copy())[None]


def low_rank_parameters(rows: int, columns: int, rank: int) -> int:
    """Numbers that hold a rows × columns matrix of rank r: r (rows + columns − r) + min(r, rows − r), or all of it.

    B is r of the matrix's own rows, and a (rows − r) × r matrix T makes the other rows of B. Which rows B has is a list
    of indices, of the rows in it or of those that are not, whichever is shorter. Two plain factors, r (rows + columns),
    are larger than the matrix from r = rows columns / (rows + columns) on; here the matrix itself is kept where that
    takes less.
    """
    return min(rows * columns, rank * (rows + columns - rank) + min(rank, rows - rank))

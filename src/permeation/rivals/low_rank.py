"""Matrices of lower rank in the metric of their input: every head's own, or a reading subspace shared by heads.

Both replace W by W̃ = P B with fewer columns in P than in W and leave the coordinates of queries and keys alone, so they
are exact for rotary models too: positions act on what W̃ gives, whatever it is made of. Biases stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import isotonic_regression
from torch import Tensor

from permeation.rivals.base import (
    Factored,
    Problem,
    bias_parameters,
    frame_parameters,
    kept_values,
    low_rank_parameters,
)
from permeation.rivals.form_error import RelativeErrors
from permeation.weights.heads import Heads, each_layer, gathered
from permeation.weights.moments import triangular_root

RANKS = 24  # of which the score error is computed, to divide ranks among the layers

Metric = Literal["plain", "score"]


def layer_matrices(heads: Heads) -> Float[Tensor, "layers d_model columns"]:
    """A layer's W_Q and W_K of all heads side by side: everything that reads the layer's input."""
    return torch.cat([heads.W_Q, heads.W_K], dim=1).movedim(1, 2).flatten(2)


def from_layer_matrices(each: Iterable[Float[Tensor, "1 d_model columns"]], heads: Heads) -> Heads:
    """`layer_matrices` undone, from those of one layer after the other, as precise as `heads`, whose biases stay."""
    layers, n_heads, _, d_head = heads.W_Q.shape
    by_head = (W.to(heads.W_Q.dtype).unflatten(2, (-1, d_head)).movedim(2, 1) for W in each)
    W_Q, W_K = gathered(((W[:, :n_heads], W[:, n_heads:]) for W in by_head), layers)
    return Heads(W_Q, W_K, heads.b_Q, heads.b_K)


def metric_of(problem: Problem, metric: Metric) -> Float[Tensor, "layers d_model d_model"]:
    """S of every layer; the identity for `plain`."""
    if metric == "plain":
        layers, _, d_model, _ = problem.heads.W_Q.shape
        return torch.eye(d_model, dtype=torch.float64).expand(layers, -1, -1)
    return problem.moments.shrunk


def unwhitened(
    F: Float[Tensor, "layers d d"], U: Float[Tensor, "layers *heads d k"]
) -> Float[Tensor, "layers *heads d k"]:
    """F⁻¹ U with each layer's triangular F for all of its heads."""
    columns = U.movedim(-2, 1)
    return torch.linalg.solve_triangular(F, columns.flatten(2), upper=True).view(columns.shape).movedim(1, -2)


def leading_directions(
    W: Float[Tensor, "layers d_model columns"], S: Float[Tensor, "layers d_model d_model"]
) -> tuple[Float[Tensor, "layers d_model rank"], Float[Tensor, "layers rank columns"]]:
    """P = F⁻¹ U and B = Uᵀ F W at full rank, the leading first: of rank r, P B is nearest to W in the metric S = Fᵀ F.

    U are the left singular vectors of F W, and what they leave of it is Uᵀ F W: U Σ Vᵀ = U (Uᵀ F W).
    """
    F = triangular_root(S)
    white = F @ W
    U = torch.linalg.eigh(white @ white.mT).eigenvectors.flip(2)[:, :, : min(W.shape[1:])]
    return unwhitened(F, U), U.mT @ white


@dataclass(frozen=True)
class HeadRanks(Factored):
    """Every head's W_Q and every key head's W_K cut to a rank of its own, by the SVD of S^½ W.

    Eckart and Young: of all matrices of rank r this has the least E ‖(W − W̃)ᵀ x‖² (S = 1: the least ‖W − W̃‖_F).
    `equal`: size r is the rank of all. `greedy`: size t keeps the t largest singular values of the whole model, which
    is the least error in sum for t ranks in sum; each matrix's rank is one more number.

    Stored: Σ_matrices r (d_model + d_head − r) + min(r, d_model − r), at most d_model d_head [+ 1 a matrix where
    greedy], + biases.

    Attributes:
        heads: the untouched weights. U, S, Vh: SVD of S^½ W of the matrices, layer by layer, U unwhitened by S^−½.
        greedy: whether the largest singular values of all matrices are kept, instead of as many of each.
    """

    heads: Heads
    U: Float[Tensor, "matrices d_model d_head"]
    S: Float[Tensor, "matrices d_head"]
    Vh: Float[Tensor, "matrices d_head d_head"]
    greedy: bool

    @classmethod
    def fit(cls, problem: Problem, metric: Metric, greedy: bool) -> HeadRanks:
        """One SVD a matrix."""

        def decomposed(layer: Problem) -> tuple[Tensor, Tensor, Tensor]:
            F = triangular_root(metric_of(layer, metric))
            W = torch.cat([layer.heads.W_Q, layer.heads.W_K], dim=1)
            Q, R = torch.linalg.qr(each_layer(F, W))  # so that the SVD is of d_head × d_head
            U, S, Vh = torch.linalg.svd(R)
            return unwhitened(F, Q @ U), S, Vh

        each = gathered(map(decomposed, problem.layers()), len(problem.heads.W_Q))
        U, S, Vh = (tensor.flatten(0, 1) for tensor in each)
        return cls(problem.heads, U, S, Vh, greedy)

    @property
    def smallest(self) -> int:
        """Rank 1; greedy: a single rank in the whole model."""
        return 1

    @property
    def largest(self) -> int:
        """Full rank."""
        return self.S.numel() if self.greedy else self.S.shape[1]

    def stored_parameters(self, size: int) -> int:
        rows, columns = self.U.shape[1:]
        ranks = [int(rank) for rank in kept_values(self.S, size, self.greedy).sum(1)]
        total = sum(low_rank_parameters(rows, columns, rank) for rank in ranks)
        return total + self.rank_numbers + bias_parameters(self.heads)

    @property
    def rank_numbers(self) -> int:
        """A number a matrix, where greedy."""
        return len(self.S) if self.greedy else 0

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """U diag(S) and V of each layer's matrices, their columns 0 beyond the rank."""
        kept = kept_values(self.S, size, self.greedy)[:, None]
        sides = self.U, self.S[:, None] * kept, self.Vh.mT, kept
        matrices = self.heads.W_Q.shape[1] + self.heads.W_K.shape[1]
        for U, S, V, one in zip(*(side.split(matrices) for side in sides), strict=True):
            yield U * S, V * one

    def assembled(self, factors: Iterable[tuple[Tensor, ...]]) -> Heads:
        """left rightᵀ of every matrix."""
        layers, n_heads = self.heads.W_Q.shape[:2]
        W = ((left @ right.mT).to(self.heads.W_Q.dtype) for left, right in factors)
        sides = ((each[None, :n_heads], each[None, n_heads:]) for each in W)
        W_Q, W_K = gathered(sides, layers)
        return Heads(W_Q, W_K, self.heads.b_Q, self.heads.b_K)

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """Σ ranks (d_model + d_head) numbers in 2 Σ ranks columns."""
        ranks = int(kept_values(self.S, size, self.greedy).sum())
        return ranks * (self.U.shape[1] + self.Vh.shape[1]), 2 * ranks


class Subspace(Factored):
    """For rivals whose heads of a layer read through one subspace: (W_Q W_K) ≈ P B."""

    def assembled(self, factors: Iterable[tuple[Tensor, ...]]) -> Heads:
        """P B of every layer, from P and Bᵀ."""
        return from_layer_matrices((P @ B_T.mT for P, B_T in factors), self.heads)


@dataclass(frozen=True)
class LayerSubspace(Subspace):
    """All heads of a layer read the residual stream through one r-dimensional subspace: W̃ = P B, W = (W_Q W_K).

    By the SVD of S^½ W, as in HeadRanks but for a layer's matrices side by side (S = 1 is the plain one). With m =
    (heads + kv_heads) d_head columns, stored: Σ_layers [r (d_model + m − r) + min(r, d_model − r)] + biases; at r =
    min(d_model, m) the model is back. Half of d_model is more than half of the storage: of SmolLM2's 576 × 768 numbers
    a layer, r = 288 keeps 69 %.

    `equal`: size r is the rank of all layers. `greedy`: size t is the sum of the ranks, divided among the layers so
    that the mean squared error of all attention scores without the mean key (form_error) falls fastest; each layer's
    rank is one more number.

    Attributes:
        heads: the untouched weights. P, B: at full rank, the leading directions first.
        gain: by how much a direction lets the error fall, never more than the one before it.
        greedy: whether the directions of largest gain in all layers are kept, instead of as many of each.
    """

    heads: Heads
    P: Float[Tensor, "layers d_model rank"]
    B: Float[Tensor, "layers rank columns"]
    gain: Float[Tensor, "layers rank"]
    greedy: bool

    @classmethod
    def fit(cls, problem: Problem, metric: Metric | Literal["random"], greedy: bool = False) -> LayerSubspace:
        """One eigendecomposition a layer; `random`: a uniformly random subspace, and B the least-squares fit to W."""
        generator = torch.Generator().manual_seed(problem.seed)

        def directions(layer: Problem) -> tuple[Tensor, Tensor]:
            W = layer_matrices(layer.heads)
            if metric != "random":
                return leading_directions(W, metric_of(layer, metric))
            P = torch.linalg.qr(torch.randn(1, W.shape[1], W.shape[1], dtype=W.dtype, generator=generator)).Q
            return P, P.mT @ W

        P, B = gathered(map(directions, problem.layers()), len(problem.heads.W_Q))
        equal = cls(problem.heads, P, B, torch.ones(P.shape[0], P.shape[2], dtype=P.dtype), greedy=False)
        return cls(problem.heads, P, B, _gains(equal, problem), greedy=True) if greedy else equal

    @property
    def smallest(self) -> int:
        """One dimension; greedy: one in the whole model."""
        return 1

    @property
    def largest(self) -> int:
        """The rank of W."""
        return self.gain.numel() if self.greedy else self.P.shape[2]

    def stored_parameters(self, size: int) -> int:
        rows, columns = self.P.shape[1], self.B.shape[2]
        ranks = [int(rank) for rank in kept_values(self.gain, size, self.greedy).sum(1)]
        total = sum(low_rank_parameters(rows, columns, rank) for rank in ranks)
        return total + self.rank_numbers + bias_parameters(self.heads)

    @property
    def rank_numbers(self) -> int:
        """A number a layer, where greedy."""
        return len(self.P) if self.greedy else 0

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """P and Bᵀ of each layer, their columns 0 beyond the rank."""
        kept = kept_values(self.gain, size, self.greedy)
        most = int(kept.sum(1).max())
        for P, B, each in zip(self.P.split(1), self.B.split(1), kept[:, None, :most].split(1), strict=True):
            yield P[:, :, :most] * each, B[:, :most].mT * each

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """Σ ranks (d_model + m) numbers in 2 Σ ranks columns."""
        ranks = size if self.greedy else size * len(self.P)
        return ranks * (self.P.shape[1] + self.B.shape[2]), 2 * ranks


def _gains(subspace: LayerSubspace, problem: Problem) -> Float[Tensor, "layers rank"]:
    """By how much each direction lets the squared score error of its layer fall, between RANKS computed ones evenly.

    Made falling from direction to direction (isotonic regression), so that the first of a layer are
    kept first.
    """
    errors = RelativeErrors.fit(problem.heads, problem.moments)
    full = subspace.P.shape[2]
    ranks = sorted({round(full * i / RANKS) for i in range(1, RANKS + 1)} - {0})
    squares = [errors.squared(subspace.apply(rank))["score_centred"] for rank in (0, *ranks)]
    falls = [
        ((above - below) / (rank - last))[:, None].expand(-1, rank - last)
        for above, below, last, rank in zip(squares, squares[1:], (0, *ranks), ranks, strict=False)
    ]
    gains = torch.cat(falls, dim=1).numpy()
    return torch.from_numpy(np.stack([isotonic_regression(own, increasing=False).x for own in gains]))


@dataclass(frozen=True)
class SharedSubspace(Subspace):
    """Layers that are neighbours read through one r-dimensional subspace (basis sharing, Wang et al. 2024).

    P of a group of layers has the leading left singular vectors of their W side by side (`score`: of S̄^½ W, mapped
    back by S̄^−½, with S̄ the mean of S over the group: one subspace needs one metric). Given P, each layer's B =
    (Pᵀ S P)⁻¹ Pᵀ S W is the least-squares fit in that layer's own metric. Stored: groups [r (d_model − r) +
    min(r, d_model − r)] for the Ps and layers r m for the Bs, + biases.

    Attributes:
        problem: the untouched weights and the moments. metric: as above. step: the layers of a group.
        P: all d_model directions of each group, the leading first.
    """

    problem: Problem
    metric: Metric
    step: int
    P: Float[Tensor, "groups d_model d_model"]

    @classmethod
    def fit(cls, problem: Problem, metric: Metric, layers: int | None = None) -> SharedSubspace:
        """One eigendecomposition of Σ S̄^½ W Wᵀ S̄^½ for each group of so many `layers`; None: for the whole model."""
        count = len(problem.heads.W_Q)
        P, step = [], layers or count
        for first in range(0, count, step):
            group = problem.part(slice(first, first + step))
            S = reduce(torch.add, (metric_of(layer, metric) for layer in group.layers())) / len(group.heads.W_Q)
            F = triangular_root(S)
            white = (F @ layer_matrices(layer.heads) for layer in group.layers())
            vectors = torch.linalg.eigh(reduce(torch.add, (each @ each.mT for each in white))).eigenvectors
            P.append(unwhitened(F, vectors.flip(2)))
        return cls(problem, metric, step, torch.cat(P))

    @property
    def heads(self) -> Heads:  # type: ignore[override]
        """The untouched weights."""
        return self.problem.heads

    @property
    def smallest(self) -> int:
        """One dimension."""
        return 1

    @property
    def largest(self) -> int:
        """d_model."""
        return self.P.shape[1]

    def stored_parameters(self, size: int) -> int:
        groups, d_model, _ = self.P.shape
        weights = (self.heads.W_Q.numel() + self.heads.W_K.numel()) // d_model * size
        return groups * frame_parameters(d_model, size) + weights + bias_parameters(self.heads)

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """P and Bᵀ of each layer."""
        for i, layer in enumerate(self.problem.layers()):
            P = self.P[i // self.step, None, :, :size]
            projected = P.mT @ metric_of(layer, self.metric)
            yield P, torch.linalg.solve(projected @ P, projected @ layer_matrices(layer.heads)).mT

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """groups r d_model + layers r m numbers, in (groups + layers) r columns."""
        groups, layers = len(self.P), len(self.heads.W_Q)
        numbers = self.P.numel() + self.heads.W_Q.numel() + self.heads.W_K.numel()  # at full rank
        return size * numbers // self.P.shape[1], size * (groups + layers)

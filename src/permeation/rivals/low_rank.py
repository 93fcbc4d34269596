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
from torch import Tensor

from permeation.rivals.base import Numbers, Problem, bias_parameters
from permeation.weights.heads import Heads, gathered
from permeation.weights.moments import triangular_root


class Subspace(Numbers):
    """For rivals that are a product P B in each layer."""

    heads: Heads  # the untouched weights
    step: int  # neighbouring layers that have one P
    smallest = 1  # dimensions

    @property
    def largest(self) -> int:
        """Full rank."""
        raise NotImplementedError

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """P and Bᵀ of one layer after the other."""
        raise NotImplementedError

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """How many numbers all factors have, and how many columns."""
        raise NotImplementedError

    def apply(self, size: int) -> Heads:
        """The products of the factors."""
        return from_layer_matrices((P @ B_T.mT for P, B_T in self.factors(size)), self.heads)


@dataclass(frozen=True)
class LayerSubspace(Subspace):
    """Every layer reads through an r-dimensional subspace of its own; r is the size.

    By the SVD of S^½ W: of all matrices of rank r, P B has the least E ‖(W − P B)ᵀ x‖² (Eckart and Young). Stored:
    Σ_layers [r (d_model + m − r) + min(r, d_model − r)] + biases; at r = min(d_model, m) the model is back. Half of
    d_model is more than half of the storage: of SmolLM2's 576 × 768 numbers a layer, r = 288 keeps 69 %.

    Attributes:
        heads: the untouched weights. P, B: at full rank, the leading directions first.
    """

    heads: Heads
    P: Float[Tensor, "layers d_model rank"]
    B: Float[Tensor, "layers rank columns"]
    step = 1

    @classmethod
    def fit(cls, problem: Problem, metric: Literal["score", "random"] = "score") -> LayerSubspace:
        """One eigendecomposition a layer; `random`: a uniformly random subspace, and B the least-squares fit to W."""
        generator = torch.Generator().manual_seed(problem.seed)

        def directions(layer: Problem) -> tuple[Tensor, Tensor]:
            W = layer_matrices(layer.heads)
            if metric == "score":
                return leading_directions(W, layer.moments.shrunk)
            P = torch.linalg.qr(torch.randn(1, W.shape[1], W.shape[1], dtype=W.dtype, generator=generator)).Q
            return P, P.mT @ W

        return cls(problem.heads, *gathered(map(directions, problem.layers()), len(problem.heads.W_Q)))

    @property
    def largest(self) -> int:
        """The rank of W."""
        return self.P.shape[2]

    def stored_parameters(self, size: int) -> int:
        layers, d_model, _ = self.P.shape
        return layers * low_rank_parameters(d_model, self.B.shape[2], size) + bias_parameters(self.heads)

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first columns of P and Bᵀ of each layer."""
        for P, B in zip(self.P.split(1), self.B.split(1), strict=True):
            yield P[:, :, :size], B[:, :size].mT

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """layers r (d_model + m) numbers in layers 2 r columns."""
        ranks = size * len(self.P)
        return ranks * (self.P.shape[1] + self.B.shape[2]), 2 * ranks


@dataclass(frozen=True)
class SharedSubspace(Subspace):
    """Neighbouring layers read through one r-dimensional subspace (basis sharing, Wang et al. 2024).

    P of a group of layers has the leading left singular vectors of their S̄^½ W side by side, mapped back by S̄^−½,
    with S̄ the mean of S over the group: one subspace needs one metric. Given P, each layer's B = (Pᵀ S P)⁻¹ Pᵀ S W is
    the least-squares fit in that layer's own metric. Stored: groups [r (d_model − r) + min(r, d_model − r)] for the Ps
    (r rows of a basis can be made the identity) and layers r m for the Bs, + biases.

    Attributes:
        problem: the moments. heads: the untouched weights. step: layers in a group.
        P: all d_model directions of each group, the leading first.
    """

    problem: Problem
    heads: Heads
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
        return cls(problem, problem.heads, step, torch.cat(P))

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


def low_rank_parameters(rows: int, columns: int, rank: int) -> int:
    """Numbers that hold a rows × columns matrix of rank r: r (rows + columns − r) + min(r, rows − r), or all of it.

    B is r of the matrix's own rows, and a (rows − r) × r matrix T makes the other rows of B. Which rows B has is a list
    of indices, of the rows in it or of those that are not, whichever is shorter. Two plain factors, r (rows + columns),
    are larger than the matrix from r = rows columns / (rows + columns) on; here the matrix itself is kept where that
    takes less.
    """
    return min(rows * columns, rank * (rows + columns - rank) + min(rank, rows - rank))

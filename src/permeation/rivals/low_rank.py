"""All heads of a layer read the residual stream through one subspace: W ≈ P B, W = (W_Q W_K) side by side.

P is d_model × r, B is r × m with m = (heads + kv_heads) d_head. W̃ = P B leaves the coordinates of queries and keys
alone, so it is exact for rotary models too: positions act on W̃ᵀ x, whatever W̃ is made of. Biases stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Numbers, Problem, bias_parameters
from permeation.weights.heads import Heads, gathered
from permeation.weights.moments import triangular_root


@dataclass(frozen=True)
class LayerSubspace(Numbers):
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
    smallest = 1

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

    def apply(self, size: int) -> Heads:
        """The products of the factors."""
        factors = zip(self.P.split(1), self.B.split(1), strict=True)
        return from_layer_matrices((P[:, :, :size] @ B[:, :size] for P, B in factors), self.heads)


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

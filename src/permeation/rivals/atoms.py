"""A dictionary of matrices over layers: every layer's W_Q is a mixture of a few d_model × (heads d_head) atoms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Numbers, Problem, bias_parameters
from permeation.weights.heads import Heads


@dataclass(frozen=True)
class MatrixAtoms(Numbers):
    """W_l ≈ Σ_s c_ls D_s with the same S atoms D for all layers, W_Q and W_K apart; S is the size.

    The dictionary of MASA (arXiv 2508.04581), which trains it; here it is the best without training, by the SVD of the
    layers' flattened matrices: Ŵ = C Cᵀ W with C the leading eigenvectors of the kernel ⟨W_l, W_m⟩. Stored: S of L
    layers' numbers, S L coefficients for each of the two, and the biases; at S = L the model is back.

    Attributes:
        heads: the untouched weights. vectors: of W_Q's and of W_K's kernel, the leading first.
    """

    heads: Heads
    vectors: tuple[Float[Tensor, "layers layers"], Float[Tensor, "layers layers"]]
    largest: int
    smallest: int = 1

    @classmethod
    def fit(cls, problem: Problem) -> MatrixAtoms:
        """Two eigendecompositions."""
        flat = (W.double().flatten(1) for W in (problem.heads.W_Q, problem.heads.W_K))
        Q, K = (torch.linalg.eigh(W @ W.T).eigenvectors.flip(1) for W in flat)
        return cls(problem.heads, (Q, K), len(Q))

    def stored_parameters(self, size: int) -> int:
        layers, sides = len(self.heads.W_Q), (self.heads.W_Q, self.heads.W_K)
        return size * sum(W.numel() // layers + layers for W in sides if W.numel()) + bias_parameters(self.heads)

    def apply(self, size: int) -> Heads:
        """Every layer's mixture of the first atoms."""
        sides = zip((self.heads.W_Q, self.heads.W_K), self.vectors, strict=True)
        W_Q, W_K = ((C[:, :size] @ (C[:, :size].T @ W.double().flatten(1))).view_as(W) for W, C in sides)
        return Heads(W_Q, W_K, self.heads.b_Q, self.heads.b_K)

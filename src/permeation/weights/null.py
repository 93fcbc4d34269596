"""What the heads' spectra would look like if the heads had nothing in common: random frames, unit norms."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, gram_form
from permeation.weights.inner_product import circuit_kernel


def unit_norm(kernel: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The kernel of the heads scaled to ‖M‖_F = 1: no head counts for more than another."""
    norm = kernel.diagonal().sqrt()
    return kernel / norm[:, None] / norm


def _frames(generator: torch.Generator, *shape: int) -> Tensor:
    """Orthonormal columns, uniformly distributed: Q of a Gaussian matrix with the signs of R's diagonal taken out."""
    Q, R = torch.linalg.qr(torch.randn(*shape, dtype=torch.float64, generator=generator))
    return Q * R.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]


def random_gram_kernel(heads: Heads, generator: torch.Generator) -> Float[Tensor, "n n"]:
    """The gram form's kernel of heads U diag(s) Vᵀ: s each head's own singular values, U and V random orthogonal."""
    s = torch.linalg.svdvals(gram_form(heads)).cpu()
    U, V = _frames(generator, *s.shape, s.shape[1]), _frames(generator, *s.shape, s.shape[1])
    flat = (U * s[:, None] @ V.mT).flatten(1)
    return flat @ flat.T


def random_circuit_kernel(heads: Heads, generator: torch.Generator) -> Float[Tensor, "n n"]:
    """The same for the circuit form (or, of whitened heads, for the score metric): U and V are d_model × d_head.

    With grouped queries the heads of a group share the span of their W_K by construction. The null keeps that (V is one
    random frame per key head, turned within its span for each query head), so that it is not taken for a finding.
    """
    layers, n_heads, d_model, d_head = heads.W_Q.shape
    R = torch.linalg.qr(heads.queries.double()).R @ torch.linalg.qr(heads.keys.double()).R.mT
    s = torch.linalg.svdvals(R).cpu().unflatten(0, (layers, n_heads))
    U = _frames(generator, layers, n_heads, d_model, d_head)
    turn = _frames(generator, layers, n_heads, d_head, d_head)
    V = _frames(generator, *heads.W_K.shape)
    return circuit_kernel(Heads((U * s[:, :, None] @ turn.mT).to(heads.W_Q), V.to(heads.W_Q)))

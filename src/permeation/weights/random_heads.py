"""What the heads' spectra would be if they had nothing in common but their sizes and, in the score metric, inputs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.weights.forms import circuit_kernel, whitened
from permeation.weights.heads import Heads, biases_as_rows, gathered, gram_form
from permeation.weights.moments import Moments


def unit_norm(kernel: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The kernel of the heads scaled to ‖M‖_F = 1: no head counts for more than another. A head that is 0 stays 0."""
    inverse = kernel.diagonal().rsqrt().nan_to_num(posinf=0.0)
    return kernel * inverse[:, None] * inverse


def with_norms(kernel: Float[Tensor, "n n"], own: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The kernel of the heads scaled to the norms that they have in `own`."""
    norm = own.diagonal().sqrt()
    return unit_norm(kernel) * norm[:, None] * norm


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


def random_heads(heads: Heads, generator: torch.Generator) -> Heads:
    """Heads with W_QK = U diag(s) Vᵀ: s each head's own singular values, U and V random frames of d_model × d_head.

    With grouped queries the heads of a group share the span of their W_K by construction. The null keeps that (V is one
    random frame per key head, turned within its span for each query head), so that it is not taken for a finding.
    """
    layers, n_heads, d_model, d_head = heads.W_Q.shape
    triangles = ((torch.linalg.qr(side, mode="r").R for side in (each.queries, each.keys)) for each in heads.layers())
    s = torch.cat([torch.linalg.svdvals(R_Q @ R_K.mT).cpu()[None] for R_Q, R_K in triangles])
    (U,) = gathered(((_frames(generator, 1, n_heads, d_model, d_head),) for _ in range(layers)), layers)
    turn = _frames(generator, layers, n_heads, d_head, d_head)
    V = _frames(generator, *heads.W_K.shape)
    sides = zip(U.split(1), s.split(1), turn.split(1), strict=True)
    (W_Q,) = gathered((((u * s[:, :, None] @ turn.mT).to(heads.W_Q),) for u, s, turn in sides), layers)
    return Heads(W_Q, V.to(heads.W_Q))


def random_score_kernel(
    heads: Heads, moments: Moments, own: Float[Tensor, "n n"], generator: torch.Generator, mean_key: bool = True
) -> Float[Tensor, "n n"]:
    """The kernel of random heads in the score metric, each with its head's norm in `own`, the heads' kernel there.

    The frames are drawn before the heads are whitened: what heads have in common because they read inputs with the same
    few strong directions, random heads have too. Heads that each turn to the strong directions of their own input beat
    this null without sharing anything. A bias is one of d_model + 1 equal rows here; in the heads it may be larger.
    """
    null = whitened(random_heads(biases_as_rows(heads), generator), moments, mean_key)
    return with_norms(circuit_kernel(null), own)

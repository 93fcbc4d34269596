"""Inner products between the heads' W_QK, as n × n kernels; the d × d matrices are never formed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, gram_form


def gram_kernel(heads: Heads) -> Float[Tensor, "n n"]:
    """⟨M_i, M_j⟩_F for the gram form M = W_Qᵀ W_K, in float64."""
    flat = gram_form(heads).flatten(1)
    return flat @ flat.T


def circuit_kernel(heads: Heads) -> Float[Tensor, "n n"]:
    """⟨W_Qi W_Kiᵀ, W_Qj W_Kjᵀ⟩_F = ⟨W_Qiᵀ W_Qj, W_Kiᵀ W_Kj⟩_F for the circuit form (DESIGN.md, PCA).

    Computed a layer at a time, so that memory stays at n · heads · d_head² numbers; returned in float64.
    """
    n, _, d_head = heads.queries.shape
    queries, keys = (side.movedim(1, 0).flatten(1) for side in (heads.queries, heads.keys))  # (d_model, n · d_head)
    rows = []
    for q, k in zip(heads.W_Q, heads.keys.unflatten(0, heads.W_Q.shape[:2]), strict=True):
        blocks = [(mine.mT.flatten(0, 1) @ all_).unflatten(1, (n, d_head)) for mine, all_ in ((q, queries), (k, keys))]
        product = (blocks[0] * blocks[1]).sum(dim=2, dtype=torch.float64)  # (heads · d_head, n)
        rows.append(product.unflatten(0, (-1, d_head)).sum(dim=1))
    return torch.cat(rows)

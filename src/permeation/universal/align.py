"""Bring a model of Llama's shape as near to another as it gets without changing what it computes.

What leaves the function alone, once the norms' scales are folded into the weights that read behind them:

    residual stream   E → E Q, readers W → W Q, writers W → Qᵀ W      Q orthogonal: RMSNorm knows no axes
    values of a head  W_V → Tᵀ W_V, W_O → W_O T                       T orthogonal
    order             of the heads, of the hidden units

Q is Procrustes' on the embeddings, whose rows are the same tokens in all models; T is Procrustes' for each head. The
orders are assignments of the greatest sum of inner products (Hungarian method). Each head has keys of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn


@torch.no_grad()
def align(model: Any, reference: Any) -> None:
    """Align a model to a reference, in place; the norms of both are folded."""
    for whole in (model, reference):
        _fold_norms(whole)
    Q = _nearest(*(torch.cat([whole.model.embed_tokens.weight, whole.lm_head.weight]) for whole in (model, reference)))
    for name, W in model.named_parameters():
        if W.ndim == 2:  # all but the norms
            W.copy_(Q.T @ W if name.endswith(("o_proj.weight", "down_proj.weight")) else W @ Q)
    counts = model.config.num_attention_heads, model.config.intermediate_size
    for layer, other in zip(model.model.layers, reference.model.layers, strict=True):
        for mine, theirs, count in zip(_parts(layer), _parts(other), counts, strict=True):
            _order(mine, theirs, count)
        _turn_values(layer.self_attn, other.self_attn)


def _parts(layer: Any) -> tuple[list[Any], list[Any]]:
    """Of the attention and of the MLP: what reads the residual stream, then what writes into it."""
    heads, mlp = layer.self_attn, layer.mlp
    return [heads.q_proj, heads.k_proj, heads.v_proj, heads.o_proj], [mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def _fold_norms(model: Any) -> None:
    """Fold every norm's scale into what reads behind it; the unembedding is no longer the embedding then."""
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
    pairs = [(model.model.norm, [model.lm_head])]
    for layer in model.model.layers:
        attention, mlp = _parts(layer)
        pairs += [(layer.input_layernorm, attention[:-1]), (layer.post_attention_layernorm, mlp[:-1])]
    for norm, readers in pairs:
        for reader in readers:
            reader.weight *= norm.weight
        norm.weight.fill_(1.0)


def _order(mine: Sequence[Any], theirs: Sequence[Any], count: int) -> None:
    """Order `count` heads, or hidden units, as theirs: rows of what reads, columns of what writes, the last."""
    own, other = (
        torch.cat([part.weight.unflatten(0, (count, -1)) for part in parts[:-1]], dim=1) for parts in (mine, theirs)
    )
    order = linear_sum_assignment((other.flatten(1) @ own.flatten(1).T).numpy(), maximize=True)[1]
    for reader in mine[:-1]:
        reader.weight.copy_(reader.weight.unflatten(0, (count, -1))[order].flatten(0, 1))
    mine[-1].weight.copy_(mine[-1].weight.unflatten(1, (count, -1))[:, order].flatten(1))


def _turn_values(mine: Any, theirs: Any) -> None:
    for start in range(0, mine.v_proj.out_features, mine.head_dim):
        head = slice(start, start + mine.head_dim)
        own, other = (torch.cat([each.v_proj.weight[head].T, each.o_proj.weight[:, head]]) for each in (mine, theirs))
        W_V, W_O = (own @ _nearest(own, other)).chunk(2)
        mine.v_proj.weight[head], mine.o_proj.weight[:, head] = W_V.T, W_O


def _nearest(A: Float[Tensor, "rows a"], B: Float[Tensor, "rows a"]) -> Float[Tensor, "a a"]:
    """The orthogonal Q with A Q nearest to B (Procrustes)."""
    return torch.from_numpy(orthogonal_procrustes(A.double().numpy(), B.double().numpy())[0]).float()

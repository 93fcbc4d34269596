"""Bring a model of Llama's shape as near to another as it gets without changing what it computes.

What leaves the function alone, once the norms' scales are folded into the weights that read behind them:

    residual stream   E → E Q, readers W → W Q, writers W → Qᵀ W      Q orthogonal: RMSNorm knows no axes
    values            W_V → Tᵀ W_V, W_O → W_O T                       T orthogonal, one for each head
    queries, keys     a rotation of each pair of coordinates that a position rotates
    order             of the heads, of the hidden units

With grouped queries a head is a key head with its queries. Q is Procrustes' on the embeddings, whose rows are the same
tokens in all models; T and the rotations are Procrustes' for each pair of heads. The orders are assignments of the
greatest sum of inner products (Hungarian method).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn


@torch.no_grad()
def align(model: Any, reference: Any) -> None:
    """Align a model to a reference, in place; the norms of both are folded."""
    for whole in (model, reference):
        _fold_norms(whole)
    ends = [torch.cat([whole.model.embed_tokens.weight, whole.lm_head.weight]) for whole in (model, reference)]
    Q = _procrustes(*ends)
    for part in (model.model.embed_tokens, model.lm_head, *(part for one in model.model.layers for part in _read(one))):
        part.weight.copy_(part.weight.double() @ Q)
    for layer, other in zip(model.model.layers, reference.model.layers, strict=True):
        for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
            part.weight.copy_(Q.T @ part.weight.double())
        _align_heads(layer.self_attn, other.self_attn)
        _align_units(layer.mlp, other.mlp)


def _fold_norms(model: Any) -> None:
    """Fold every norm's scale into what reads behind it; the unembedding is no longer the embedding then."""
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
    pairs = [(model.model.norm, [model.lm_head])]
    for layer in model.model.layers:
        pairs += [(layer.input_layernorm, _read(layer)[:3]), (layer.post_attention_layernorm, _read(layer)[3:])]
    for norm, readers in pairs:
        for reader in readers:
            reader.weight *= norm.weight
        norm.weight.fill_(1.0)


def _read(layer: Any) -> list[Any]:
    """What reads the residual stream."""
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj]


def _align_heads(mine: Any, theirs: Any) -> None:
    (values, pairs), (other_values, other_pairs) = _heads(mine), _heads(theirs)
    turns = torch.einsum("gxe,hxf->ghef", values, other_values)
    phases = torch.einsum("grpx,hrpx->ghp", pairs.conj(), other_pairs)
    order = _assigned(torch.linalg.matrix_norm(turns, ord="nuc") + phases.abs().sum(2))
    values = torch.stack([a @ _procrustes(a, b) for a, b in zip(values[order], other_values, strict=True)])
    pairs = pairs[order] * torch.sgn(phases[order, torch.arange(len(order))])[:, None, :, None]
    W_V, *W_O = values.mT.split(mine.v_proj.in_features, dim=2)
    W_QK = torch.stack([pairs.real, pairs.imag], dim=2)
    mine.v_proj.weight.copy_(W_V.flatten(0, 1))
    mine.o_proj.weight.copy_(torch.stack(W_O, dim=1).flatten(0, 2).T)
    mine.q_proj.weight.copy_(W_QK[:, :-1].flatten(0, 3))
    mine.k_proj.weight.copy_(W_QK[:, -1:].flatten(0, 3))


def _heads(attention: Any) -> tuple[Float[Tensor, "heads x d_head"], Complex[Tensor, "heads rows pairs d_model"]]:
    """By key head: W_Vᵀ above W_O of its queries; queries and key, coordinates that are rotated together as one."""
    d_head = attention.head_dim
    heads = attention.k_proj.out_features // d_head
    W_V = attention.v_proj.weight.double().unflatten(0, (heads, 1, d_head))
    W_O = attention.o_proj.weight.double().T.unflatten(0, (heads, -1, d_head))
    W_Q, W_K = (
        part.weight.double().unflatten(0, (heads, -1, 2, d_head // 2)) for part in (attention.q_proj, attention.k_proj)
    )
    pairs = torch.cat([W_Q, W_K], dim=1)
    return torch.cat([W_V, W_O], dim=1).mT.flatten(1, 2), torch.complex(pairs[:, :, 0], pairs[:, :, 1])


def _align_units(mine: Any, theirs: Any) -> None:
    sides = [torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight.T], 1) for mlp in (mine, theirs)]
    order = _assigned(sides[0] @ sides[1].T)
    for part in (mine.gate_proj, mine.up_proj):
        part.weight.copy_(part.weight[order])
    mine.down_proj.weight.copy_(mine.down_proj.weight[:, order])


def _procrustes(A: Float[Tensor, "rows a"], B: Float[Tensor, "rows a"]) -> Float[Tensor, "a a"]:
    """The orthogonal Q with A Q nearest to B."""
    return torch.from_numpy(orthogonal_procrustes(A.double().numpy(), B.double().numpy())[0])


def _assigned(score: Float[Tensor, "mine theirs"]) -> Int[Tensor, "theirs"]:
    """Which of mine takes the place of each of theirs, one to one, for the greatest sum."""
    return torch.from_numpy(linear_sum_assignment(score.T.numpy(), maximize=True)[1])

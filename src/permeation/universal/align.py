"""Bring a model of Llama's shape as near to another as it gets without changing what it computes.

What leaves the function alone, once the norms' scales are folded into the weights that read behind them:

    residual stream   E → E Q, readers W → W Q, writers W → Qᵀ W      Q orthogonal: RMSNorm knows no axes
    values            W_V → T W_V, W_O → W_O Tᵀ                       T orthogonal, one for each head
    queries, keys     a rotation of each pair of coordinates that a position rotates
    order             of the heads, of the hidden units

With grouped queries a head is a key head with its queries. Q is Procrustes' on the embeddings, whose rows are the same
tokens in all models; T and the rotations are Procrustes' for each pair of heads. The orders are assignments of the
greatest sum of inner products (Hungarian method).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from permeation.frame.progress import each
from permeation.universal.stack import Member


def aligned(members: Sequence[Member], folder: Path) -> list[Member]:
    """Models of the same function, aligned to the first of them, as checkpoints in a folder."""
    reference = members[0].load()
    fold_all_norms(reference)
    found = []
    for i, member in enumerate(each(members, "alignment", len(members))):
        model = member.load()
        fold_all_norms(model)
        align(model, reference)
        model.save_pretrained(folder / str(i))
        found.append(Member(member.name, folder / str(i)))
    return found


def can_be_aligned(model: Any) -> bool:
    """Whether the model is of Llama's shape, without biases."""
    biased = any(name.endswith("bias") for name, _ in model.named_parameters())
    return model.config.model_type in ("llama", "mistral") and not biased


@torch.no_grad()
def fold_all_norms(model: Any) -> None:
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


@torch.no_grad()
def align(model: Any, reference: Any) -> None:
    """Align a model to a reference, in place; both have folded norms (`fold_all_norms`)."""
    ends = [(whole.model.embed_tokens.weight, whole.lm_head.weight) for whole in (model, reference)]
    Q = procrustes(sum(mine.double().T @ theirs.double() for mine, theirs in zip(*ends, strict=True)))
    for weight in (*ends[0], *(part.weight for layer in model.model.layers for part in _read(layer))):
        weight.copy_(weight.double() @ Q)
    for layer, other in zip(model.model.layers, reference.model.layers, strict=True):
        for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
            weight.copy_(Q.T @ weight.double())
        _align_heads(layer.self_attn, other.self_attn)
        _align_units(layer.mlp, other.mlp)


def procrustes(C: Float[Tensor, "*batch a a"]) -> Float[Tensor, "*batch a a"]:
    """The orthogonal Q of greatest tr(Qᵀ C): U Vᵀ of C's singular vectors."""
    U, _, Vh = torch.linalg.svd(C)
    return U @ Vh


def _read(layer: Any) -> list[Any]:
    """What reads the residual stream."""
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj]


def _align_heads(mine: Any, theirs: Any) -> None:
    (values, turned), (other_values, other_turned) = _heads(mine), _heads(theirs)
    turns = torch.einsum("gex,hfx->ghef", values, other_values)
    phases = torch.einsum("grpx,hrpx->ghp", turned.conj(), other_turned)
    order = _assigned(torch.linalg.matrix_norm(turns, ord="nuc") + phases.abs().sum(2))
    place = torch.arange(len(order))
    values = procrustes(turns[order, place]).mT @ values[order]
    turned = turned[order] * torch.sgn(phases[order, place])[:, None, :, None]
    sides = values.unflatten(2, (-1, mine.v_proj.in_features))
    pairs = torch.stack([turned.real, turned.imag], dim=2)
    mine.v_proj.weight.copy_(sides[:, :, 0].flatten(0, 1))
    mine.o_proj.weight.copy_(sides[:, :, 1:].transpose(1, 2).flatten(0, 2).T)
    mine.q_proj.weight.copy_(pairs[:, :-1].flatten(0, 3))
    mine.k_proj.weight.copy_(pairs[:, -1:].flatten(0, 3))


def _heads(attention: Any) -> tuple[Float[Tensor, "heads d_head x"], Complex[Tensor, "heads rows pairs d_model"]]:
    """By key head: W_V beside W_Oᵀ of its queries; queries and key, coordinates that are rotated together as one."""
    d_head = attention.head_dim
    heads = attention.k_proj.out_features // d_head
    W_V = attention.v_proj.weight.double().unflatten(0, (heads, d_head))
    W_O = attention.o_proj.weight.double().T.unflatten(0, (heads, -1, d_head))
    W_Q, W_K = (
        part.weight.double().unflatten(0, (heads, -1, 2, d_head // 2)) for part in (attention.q_proj, attention.k_proj)
    )
    values = torch.cat([W_V[:, :, None], W_O.transpose(1, 2)], dim=2).flatten(2)
    pairs = torch.cat([W_Q, W_K], dim=1)
    return values, torch.complex(pairs[:, :, 0], pairs[:, :, 1])


def _align_units(mine: Any, theirs: Any) -> None:
    sides = [torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight.T], 1) for mlp in (mine, theirs)]
    order = _assigned(sides[0] @ sides[1].T)
    for part in (mine.gate_proj, mine.up_proj):
        part.weight.copy_(part.weight[order])
    mine.down_proj.weight.copy_(mine.down_proj.weight[:, order])


def _assigned(score: Float[Tensor, "mine theirs"]) -> Int[Tensor, "theirs"]:
    """Which of mine takes the place of each of theirs, one to one, for the greatest sum."""
    return torch.from_numpy(linear_sum_assignment(score.T.numpy(), maximize=True)[1])

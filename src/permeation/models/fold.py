"""Folding the norms of an attention layer into its weights."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from permeation.models.families import AttentionViews, attention_views


@torch.no_grad()
def fold_norms(model: Any) -> None:
    """Fold the scales and shifts of each attention layer's norms into its weights; the model's function stays.

    In front of the layer: W ← γ ∘ W and b ← b + β W, then γ = 1 and β = 0. A LayerNorm's output has mean zero over
    d_model, so W's mean over d_model never acts and is removed too (TransformerLens' compatibility mode does the
    same). What else reads the norm, as a parallel MLP does, is given γ ∘ x + β of what it reads now.

    Of queries and keys: W_Q ← W_Q diag(γ_q), W_K ← W_K diag(γ_k), and these norms divide what they read by γ again. A
    scale of 0, which no division undoes, is folded as the smallest other one (docs/models.md, Folding).
    """
    for layer in attention_views(model):
        if layer.b_Q is None and getattr(layer.norm, "bias", None) is not None:
            _add_biases(layer)  # β W needs a place
    for layer in attention_views(model):
        gamma, beta = getattr(layer.norm, "weight", None), getattr(layer.norm, "bias", None)
        gamma = None if gamma is None else gamma + layer.norm_offset
        for W, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)):
            if beta is not None and b is not None:
                b += beta @ W
            if gamma is not None:
                W *= gamma[:, None]
            if layer.centres:
                W -= W.mean(dim=1, keepdim=True)
        if gamma is not None:
            for reader in layer.also_read_by:
                _give_back(reader, gamma, None if beta is None else beta.clone())
            layer.norm.weight.fill_(1.0 - layer.norm_offset)
        if beta is not None:
            beta.zero_()
        _fold_inner(layer.q_norm, layer.norm_offset, layer.W_Q, layer.b_Q)
        _fold_inner(layer.k_norm, layer.norm_offset, layer.W_K, layer.b_K)


def _add_biases(layer: AttentionViews) -> None:
    """Give projections without a bias one of zeros."""
    for projection in dict.fromkeys(layer.projections):
        weight: Any = projection.weight
        width = weight.shape[0] if isinstance(projection, nn.Linear) else weight.shape[1]
        projection.bias = nn.Parameter(weight.new_zeros(width), requires_grad=False)


def _give_back(reader: nn.Module, gamma: Tensor, beta: Tensor | None) -> None:
    def scaled(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x = inputs[0] * gamma.to(inputs[0])
        return (x if beta is None else x + beta.to(x), *inputs[1:])

    reader.register_forward_pre_hook(scaled)


def _fold_inner(norms: tuple[Any, ...], offset: float, W: Tensor, b: Tensor | None) -> None:
    """Fold the scale of the norm (or of each head's own) of queries or keys into their weights."""
    if not norms:
        return
    scales = [undoable(norm.weight + offset) for norm in norms]
    # A norm has one scale for all heads together, one that all heads share, or one for each head.
    gamma = torch.stack(scales).view(-1, W.shape[2])
    W *= gamma[:, None]
    if b is not None:
        b *= gamma
    for norm, scale in zip(norms, scales, strict=True):
        norm.register_forward_pre_hook(lambda _module, inputs, scale=scale: (inputs[0] / scale.to(inputs[0]),))


def undoable(scale: Float[Tensor, "*heads d_head"]) -> Float[Tensor, "*heads d_head"]:
    """The scale, with each 0 in it replaced by its smallest other value."""
    least = torch.where(scale == 0, torch.inf, scale.abs()).min()
    return torch.where(scale == 0, least if least.isfinite() else torch.ones_like(least), scale)

"""Folding the norm in front of an attention layer into its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from permeation.models.families import attention_views


@torch.no_grad()
def fold_norms(model: Any) -> None:
    """Fold the scale and shift of each attention layer's norm into W_Q, W_K, W_V; the model's function stays.

    W ← γ ∘ W and b ← b + β W, then γ = 1 and β = 0. A LayerNorm's output has mean zero over d_model, so W's mean
    over d_model never acts and is removed too (DESIGN.md, Weights; TransformerLens' compatibility mode does the
    same). An RMSNorm does not centre, so its weights are not centred.
    """
    for layer in attention_views(model):
        gamma, beta = layer.norm.weight, getattr(layer.norm, "bias", None)
        for W, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)):
            if beta is not None:
                assert b is not None, "every supported family with a LayerNorm has attention biases"
                b += beta @ W
            W *= gamma[:, None]
            if isinstance(layer.norm, nn.LayerNorm):
                W -= W.mean(dim=1, keepdim=True)
        gamma.fill_(1.0)
        if beta is not None:
            beta.zero_()

"""The logit lens: what the model would predict if it stopped at a layer (nostalgebraist, 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from permeation.frame.device import fast_products
from permeation.models.families import final_norm, readout


@torch.no_grad()
@fast_products()
def probabilities(model: Any, residual: Float[np.ndarray, "*batch d_model"]) -> Float[torch.Tensor, "*batch d_vocab"]:
    """softmax(W_U norm(φ)): the distribution over the next token, with the final norm and unembedding at every layer.

    For a LayerNorm it does not matter that the residuals come with their mean over d_model removed.
    """
    normed = final_norm(model)(torch.tensor(residual, device=model.device, dtype=model.dtype))
    return readout(model).logits(normed).float().softmax(dim=-1)


def lead_layer(leader: Int[np.ndarray, "prompts layers"]) -> Int[np.ndarray, "prompts"]:
    """The layer from which on the token that leads at L has the largest probability at every layer."""
    same = leader == leader[:, -1:]
    return np.where(same.all(axis=1), 0, same.shape[1] - same[:, ::-1].argmin(axis=1))

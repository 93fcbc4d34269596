"""The logit lens: softmax(W_U norm(φ(l))), what a model would predict if it stopped at layer l.

From nostalgebraist (2020). For a LayerNorm it does not matter that φ comes with its mean over d_model removed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from permeation.frame.device import fast_products
from permeation.models.families import final_norm, readout


def lead_layer(leader: Int[np.ndarray, "prompts layers"]) -> Int[np.ndarray, "prompts"]:
    """The layer from which on the token that leads at L has the largest probability at every layer."""
    same = leader == leader[:, -1:]
    return np.where(same.all(axis=1), 0, same.shape[1] - same[:, ::-1].argmin(axis=1))


@torch.no_grad()
@fast_products()
def lead_depth(model: Any, residual: Float[np.ndarray, "prompts layers d_model"]) -> float:
    """`lead_layer` over L, the median over prompts."""
    norm, head = final_norm(model), readout(model)
    streams = (torch.tensor(each, device=model.device, dtype=model.dtype) for each in residual)
    leader = np.stack([head.logits(norm(stream)).argmax(dim=-1).cpu().numpy() for stream in streams])
    depth = lead_layer(leader) / (residual.shape[1] - 1)
    return float(np.median(depth))

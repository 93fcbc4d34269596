"""What a model would predict if it stopped at layer l: softmax(W_U norm(φ)), with φ the stream that a lens gives.

The logit lens takes φ(l) as it is (nostalgebraist, 2020); the tuned lens maps it to φ(L) first (tuned_lens.py). For a
LayerNorm it does not matter that φ comes with its mean over d_model removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.meaning.intervene import lean, response_to_shift
from permeation.meaning.measure_uses import Shifting, Uses
from permeation.models.families import final_norm, readout

Lens = Callable[[Float[np.ndarray, "*batch d_model"], int], Float[np.ndarray, "*batch d_model"]]


def logit_lens(stream: Float[np.ndarray, "*batch d_model"], _layer: int) -> Float[np.ndarray, "*batch d_model"]:
    """The stream itself."""
    return stream


@torch.no_grad()
@fast_products()
def logits(model: Any, stream: Float[np.ndarray, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
    """The logits of streams that stand for φ(L)."""
    return readout(model).logits(final_norm(model)(torch.from_numpy(stream).to(model.device, model.dtype)))


def lead_layer(leader: Int[np.ndarray, "prompts layers"]) -> Int[np.ndarray, "prompts"]:
    """The layer from which on the token that leads at L has the largest probability at every layer."""
    same = leader == leader[:, -1:]
    return np.where(same.all(axis=1), 0, same.shape[1] - same[:, ::-1].argmin(axis=1))


def lead_depth(model: Any, residual: Float[np.ndarray, "prompts layers d_model"], lens: Lens = logit_lens) -> float:
    """`lead_layer` over L, the median over prompts."""
    seen = (logits(model, lens(residual[:, layer], layer)) for layer in range(residual.shape[1]))
    leader = np.stack([each.argmax(dim=-1).cpu().numpy() for each in seen], axis=1)
    return float(np.median(lead_layer(leader) / (residual.shape[1] - 1)))


def through(uses: Uses, shifting: Shifting, name: str, lens: Lens) -> Uses:
    """The interventions of `uses` with a lens in place of the blocks after each layer; the one outcome is `name`.

    R is the change of T that the lens sees, over the model's own difference between the senses. R of the transplant is
    the share of this difference that the lens reads; at the last layer the logit lens gives R of the next token.
    """
    clean, words = shifting.clean, {}
    for word in uses.words:
        own, pairs = clean.words[word]
        T, seen = clean.outcomes[own, 0], []
        for layer in uses.layers:
            shifts = np.pad(pairs.shifts(layer, shifting.seed), ((0, 0), (1, 0), (0, 0)))  # the first is none
            p = logits(shifting.model, lens(pairs.stream[:, layer, None] + shifts, layer)).float().softmax(dim=-1)
            leans = lean(p.cpu()[:, :, None], clean.weights[own, :1])[..., 0].numpy()
            seen.append(response_to_shift(T, T[:, None] + leans[:, 1:] - leans[:, :1]))
        words[word] = np.stack(seen)[..., None]
    return replace(uses, words=words, outcomes=(name,))

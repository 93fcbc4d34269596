"""How much each head looks, at the word, at the tokens that decide its sense."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from permeation.frame.errors import PermeationError


def deciding(own: Sequence[int], twin: Sequence[int]) -> Bool[np.ndarray, "tokens"]:
    """Which tokens of a prompt stand not at their place in its twin: what has to be changed to make the one the other.

    The longest common blocks stay (difflib's SequenceMatcher).
    """
    differs = np.ones(len(own), dtype=bool)
    for block in SequenceMatcher(None, list(own), list(twin), autojunk=False).get_matching_blocks():
        differs[block.a : block.a + block.size] = False
    return differs


@torch.no_grad()
def attention_at_word(
    model: Any, sequences: Sequence[Sequence[int]]
) -> Float[np.ndarray, "prompts layers heads tokens"]:
    """The attention of the last token of sequences of one length, by every head of every layer.

    Raises PermeationError for a family whose attention cannot be read.
    """
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        found = model(torch.tensor([list(each) for each in sequences], device=model.device), output_attentions=True)
    finally:
        model.set_attn_implementation(usual)
    layers = found.attentions
    if not layers or any(each is None for each in layers):  # pragma: no cover (no family that is tried is one)
        raise PermeationError(f"the family {model.config.model_type!r} does not say where its heads look")
    return torch.stack([each[:, :, -1].float().cpu() for each in layers], dim=1).numpy()

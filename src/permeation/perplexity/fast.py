"""A model made ready for scoring: attention that does only the causal half of the work, and one-pass GELU.

It is faster, and its answer is that of plain transformers (tests/perplexity/test_fast.py).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.activations import NewGELUActivation

from permeation.frame.errors import PermeationError
from permeation.models.families import blocks

ROWS = 128  # queries of a block: their scores against all keys stay in the cache


def causal_blocks(
    module: Any,  # noqa: ARG001 (transformers passes it)
    query: Float[Tensor, "batch heads tokens d_head"],
    key: Float[Tensor, "batch kv_heads tokens d_head"],
    value: Float[Tensor, "batch kv_heads tokens d_head"],
    attention_mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch tokens heads d_head"], None]:
    """softmax(q kᵀ · scaling) v over the past, a block of queries at a time, as transformers' attention interface.

    A block multiplies with the keys up to its own end only. The query heads that share a key head are rows of one
    product, so that keys and values are never repeated. Raises PermeationError for a mask and for attention sinks.
    """
    if attention_mask is not None or s_aux is not None:
        raise PermeationError("the model's attention asks for a mask or has sinks, which scoring does not support")
    batch, heads, tokens, d_head = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    queries = (query * scaling).to(value.dtype).reshape(batch * kv_heads, group, tokens, d_head)
    keys = key.to(value.dtype).reshape(batch * kv_heads, tokens, d_head).mT
    values = value.reshape(batch * kv_heads, tokens, d_head)
    out = value.new_empty(batch * kv_heads, group, tokens, d_head)
    for start in range(0, tokens, ROWS):
        end = min(start + ROWS, tokens)
        scores = torch.bmm(queries[:, :, start:end].flatten(1, 2), keys[:, :, :end])
        if softcap is not None:  # Gemma 2
            scores = softcap * (scores / softcap).tanh()
        future = torch.ones(end - start, end - start, dtype=torch.bool, device=scores.device).triu(1)
        scores.unflatten(1, (group, -1))[..., start:].masked_fill_(future, -torch.inf)
        past = torch.bmm(scores.softmax(dim=-1), values[:, :end])
        out[:, :, start:end] = past.unflatten(1, (group, -1))
    return out.view(batch, heads, tokens, d_head).transpose(1, 2), None


AttentionInterface.register("causal_blocks", causal_blocks)


def prepare_for_scoring(model: Any, dtype: str, context: int) -> Any:
    """The model in place, as it is scored on windows of `context` tokens: in `dtype`, with the fast attention."""
    # A window or a chunk shorter than the context needs the model's own mask.
    reaches = (getattr(model.config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    if model.device.type == "cpu" and all(reach is None or reach >= context for reach in reaches):
        model.set_attn_implementation("causal_blocks")
    for part in list(blocks(model).modules()):
        for name, child in part.named_children():
            if isinstance(child, NewGELUActivation):  # GPT-2's, in transformers eight operations
                setattr(part, name, nn.GELU(approximate="tanh"))
    return model.to(getattr(torch, dtype))

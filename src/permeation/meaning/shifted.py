"""Run a model on from a changed residual stream: prefix keys and values kept, blocks before the change left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.models.families import blocks, stream_of


@dataclass(frozen=True)
class CleanRun:
    """Prompts of one length, read by the untouched model: their word and one token after it.

    Attributes:
        tokens: the word's last token and the one after it.
        cache: keys and values of all tokens before these, every prompt `repeats` times in a row.
        streams: the residual stream at both tokens after each block.
        in_tuple: whether the blocks return it as the first of a tuple.
        logits: at both tokens.
    """

    tokens: Int[Tensor, "prompts 2"]
    repeats: int
    cache: Any
    streams: Float[Tensor, "layers prompts 2 d_model"]
    in_tuple: bool
    logits: Float[Tensor, "prompts 2 d_vocab"]


@torch.no_grad()
@fast_products()
def read_clean(model: Any, sequences: Sequence[Sequence[int]], after: int, repeats: int) -> CleanRun:
    """Read sequences of one length, at least two tokens, and the token `after` each; keep what later runs need.

    Nothing is padded, so that no position and no mask differs from a run of the whole prompt.
    """
    tokens = torch.tensor([[*sequence, after] for sequence in sequences], device=model.device)
    cache = model.base_model(tokens[:, :-2], use_cache=True).past_key_values
    outputs: list[Any] = []
    handles = [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in blocks(model)]
    try:
        with keeping(cache):
            logits = model(tokens[:, -2:], past_key_values=cache, use_cache=True).logits
    finally:
        for handle in handles:
            handle.remove()
    cache.batch_repeat_interleave(repeats)
    streams = torch.stack([stream_of(output) for output in outputs])
    return CleanRun(tokens[:, -2:], repeats, cache, streams, isinstance(outputs[0], tuple), logits)


@torch.no_grad()
@fast_products()
def run_shifted(
    model: Any, clean: CleanRun, layer: int, shift: Float[Tensor, "prompts repeats d_model"]
) -> tuple[Float[Tensor, "prompts repeats 2 d_vocab"], Float[Tensor, "prompts repeats d_model"]]:
    """Logits at both tokens, and the last block's output at the word, with φ(layer) + shift at the word.

    layer: from 1 (the first block's output) to L. The token after the word keeps its own stream at that layer and
    reads the changed word from there on; below it the word's keys and values would be the clean ones, and no block
    below is run.
    """
    stream = clean.streams[layer - 1].repeat_interleave(clean.repeats, dim=0)
    stream[:, 0] += shift.flatten(0, 1).to(stream)
    last: list[Tensor] = []
    handle = blocks(model)[-1].register_forward_hook(lambda *call: last.append(stream_of(call[-1])))
    try:
        with keeping(clean.cache), continuing(model, layer, stream, clean.in_tuple):
            tokens = clean.tokens.repeat_interleave(clean.repeats, dim=0)
            logits = model(tokens, past_key_values=clean.cache, use_cache=True).logits
    finally:
        handle.remove()
    shape = (len(clean.tokens), clean.repeats)
    return logits.unflatten(0, shape), last[-1][:, 0].unflatten(0, shape)


@contextmanager
def keeping(cache: Any) -> Iterator[None]:
    """Let runs add to the cache, and take it back to what it was: its tensors are replaced, never written into."""
    before = [dict(vars(layer)) for layer in cache.layers]
    try:
        yield
    finally:
        for layer, state in zip(cache.layers, before, strict=True):
            vars(layer).update(state)


@contextmanager
def continuing(
    model: Any, layer: int, stream: Float[Tensor, "rows tokens d_model"], in_tuple: bool = False
) -> Iterator[None]:
    """While it lasts the first `layer` blocks compute nothing and give `stream`; after it they are as they were.

    in_tuple: whether this family's blocks return a tuple that starts with the stream, and not the stream itself.
    """
    skipped = blocks(model)[:layer]
    try:
        for block in skipped:
            block.forward = lambda *_, **__: (stream,) if in_tuple else stream
        yield
    finally:
        for block in skipped:
            del block.forward

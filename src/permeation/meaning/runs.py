"""Run the end of a prompt again from a changed stream: the prefix's keys and values stay, blocks before it are skipped.

Nothing is padded: prompts of one length run together, so that no position and no mask differs from a run of the whole
prompt. Heads are changed, and heads recorded, by forward hooks that stand around these calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.models.families import blocks, stream_of


@dataclass(frozen=True)
class TailRun:
    """The last tokens of prompts of one length, read by the untouched model.

    Attributes:
        tokens: the last `tail` tokens of each prompt.
        cache: keys and values of all tokens before these, every prompt `repeats` times in a row.
        streams: the residual stream at the tail after each block.
        in_tuple: whether the blocks return it as the first of a tuple.
        logits: at the tail.
    """

    tokens: Int[Tensor, "prompts tail"]
    cache: Any
    repeats: int
    streams: Float[Tensor, "layers prompts tail d_model"]
    in_tuple: bool
    logits: Float[Tensor, "prompts tail d_vocab"]


@torch.no_grad()
@fast_products()
def read_tail(
    model: Any,
    sequences: Sequence[Sequence[int]],
    tail: int,
    repeats: int,
    hooks: Callable[[], Sequence[Any]] | None = None,
) -> TailRun:
    """Read sequences of one length, more than `tail` tokens each, and keep what later runs of their tail need.

    hooks: registers more hooks for the run of the tail alone, and gives their handles.
    """
    tokens = torch.tensor([list(sequence) for sequence in sequences], device=model.device)
    cache = model.base_model(tokens[:, :-tail], use_cache=True).past_key_values
    outputs: list[Any] = []
    with keeping(cache), ExitStack() as after:
        handles = [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in blocks(model)]
        for handle in [*handles, *(hooks() if hooks else ())]:
            after.callback(handle.remove)
        logits = model(tokens[:, -tail:], past_key_values=cache, use_cache=True).logits
    cache.batch_repeat_interleave(repeats)
    streams = torch.stack([stream_of(output) for output in outputs])
    return TailRun(tokens[:, -tail:], cache, repeats, streams, isinstance(outputs[0], tuple), logits)


@torch.no_grad()
@fast_products()
def resume(
    model: Any, run: TailRun, layer: int, stream: Float[Tensor, "prompts repeats tail d_model"] | None = None
) -> Float[Tensor, "prompts repeats tail d_vocab"]:
    """Logits at the tail where the stream after the first `layer` blocks is `stream`; by default the untouched one.

    These blocks are not run. With layer 0 all are, from the tokens.
    """
    if stream is None:
        stream = run.streams[max(layer - 1, 0)][:, None].expand(-1, run.repeats, -1, -1)
    with keeping(run.cache), continuing(model, layer, stream.flatten(0, 1), run.in_tuple):
        tokens = run.tokens.repeat_interleave(run.repeats, dim=0)
        logits = model(tokens, past_key_values=run.cache, use_cache=True).logits
    return logits.unflatten(0, (-1, run.repeats))


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

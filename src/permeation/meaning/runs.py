"""Run the last token of prompts again from a changed stream: keys and values of the tokens before it stay.

Blocks in front of the change are skipped. Nothing is padded: prompts of one length run together, so that no position
and no mask differs from a run of the whole prompt. Heads are changed, and heads recorded, by forward hooks that stand
around these calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.models.families import blocks, stream_of


@dataclass(frozen=True)
class LastRun:
    """The last token of prompts of one length, read by the untouched model.

    Attributes:
        tokens: the last of each prompt.
        cache: keys and values of all tokens before it, every prompt `repeats` times in a row.
        streams: the residual stream after each block.
        in_tuple: whether the blocks return it as the first of a tuple.
        logits: behind it.
    """

    tokens: Int[Tensor, "prompts 1"]
    cache: Any
    repeats: int
    streams: Float[Tensor, "layers prompts d_model"]
    in_tuple: bool
    logits: Float[Tensor, "prompts d_vocab"]


@torch.no_grad()
@fast_products()
def read_last(
    model: Any, sequences: Sequence[Sequence[int]], repeats: int, hooks: Callable[[], Sequence[Any]] | None = None
) -> LastRun:
    """Read sequences of one length, at least two tokens each, and keep what later runs of their last token need.

    hooks: registers more hooks for the run of the last token alone, and gives their handles.
    """
    tokens = torch.tensor([list(sequence) for sequence in sequences], device=model.device)
    cache = model.base_model(tokens[:, :-1], use_cache=True).past_key_values
    outputs: list[Any] = []
    with keeping(cache), ExitStack() as after:
        handles = [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in blocks(model)]
        for handle in [*handles, *(hooks() if hooks else ())]:
            after.callback(handle.remove)
        logits = model(tokens[:, -1:], past_key_values=cache, use_cache=True).logits
    cache.batch_repeat_interleave(repeats)
    streams = torch.stack([stream_of(output)[:, 0] for output in outputs])
    return LastRun(tokens[:, -1:], cache, repeats, streams, isinstance(outputs[0], tuple), logits[:, 0])


@torch.no_grad()
@fast_products()
def resume(
    model: Any, run: LastRun, layer: int, stream: Float[Tensor, "prompts repeats d_model"] | None = None
) -> Float[Tensor, "prompts repeats d_vocab"]:
    """Logits where the stream after the first `layer` blocks is `stream`; by default the untouched one.

    These blocks are not run. With layer 0 all are, from the tokens.
    """
    if stream is None:
        stream = run.streams[max(layer - 1, 0)][:, None].expand(-1, run.repeats, -1)
    rows = stream.flatten(0, 1)[:, None]
    with keeping(run.cache), skipping(blocks(model)[:layer], (rows,) if run.in_tuple else rows):
        tokens = run.tokens.repeat_interleave(run.repeats, dim=0)
        logits = model(tokens, past_key_values=run.cache, use_cache=True).logits
    return logits[:, 0].unflatten(0, (-1, run.repeats))


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
def skipping(skipped: Iterable[Any], output: Any) -> Iterator[None]:
    """While it lasts these blocks compute nothing and give `output`; after it they are as they were."""
    try:
        for block in skipped:
            block.forward = lambda *_, **__: output
        yield
    finally:
        for block in skipped:
            del block.forward

"""The perplexity without one head: z_h at every position replaced by its mean over other text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.heads.roles import Z, changing
from permeation.meaning.runs import continuing
from permeation.models.families import attention_outputs, blocks, stream_of
from permeation.perplexity.nll import window_nll
from permeation.perplexity.windows import Windows


@torch.no_grad()
@fast_products()
def mean_outputs(model: Any, windows: Windows) -> Float[Tensor, "layers heads d_head"]:
    """E z_h over all positions of the windows, of every head."""
    places = list(attention_outputs(model))
    sums: list[Any] = [0.0] * len(places)

    def add(layer: int, _projection: Any, inputs: tuple[Tensor, ...]) -> None:
        sums[layer] = sums[layer] + inputs[0].cpu().double().flatten(0, 1).sum(dim=0)

    with ExitStack() as hooks:
        for layer, place in enumerate(places):
            hooks.enter_context(place.projection.register_forward_pre_hook(partial(add, layer)))
        for window in windows.tokens.to(model.device).split(1):
            model.base_model(window, use_cache=False)
    return torch.stack(sums).unflatten(1, (len(places[0].W_O), -1)) / windows.tokens.numel()


def short_windows(whole: Windows, count: int, context: int) -> tuple[Windows, Windows]:
    """The first `context` tokens of the first `count` windows, to be scored, and of the next `count`, for the means.

    Raises PermeationError where there are fewer windows or tokens.
    """
    windows, tokens = whole.tokens.shape
    if 2 * count > windows or context > tokens:
        accepted = f"at most {windows // 2} windows of {tokens} tokens"
        raise PermeationError(f"heads.windows is {count} and heads.context {context}; accepted: {accepted}")
    (scored, others, *_), articles = whole.tokens[:, :context].split(count), whole.articles.split(count)
    return Windows(scored, articles[0]), Windows(others, articles[1])


@torch.no_grad()
@fast_products()
def untouched_streams(model: Any, windows: Windows) -> list[Any]:
    """What each block gives on the windows: blocks in front of a changed head need not run again."""
    outputs: list[Any] = []
    with ExitStack() as hooks:
        for block in blocks(model):
            hooks.enter_context(block.register_forward_hook(lambda *call: outputs.append(call[-1])))
        model.base_model(windows.tokens.to(model.device), use_cache=False)
    return outputs


def nll_without(
    model: Any, windows: Windows, streams: Sequence[Any], layer: int, head: int, mean: Float[Tensor, "d_head"]
) -> list[float]:
    """Σ NLL of each window, in nats, with z of one head replaced by `mean` at every position."""

    def change(z: Z) -> None:
        z[..., head, :] = mean.to(z)

    before = streams[layer - 1]
    with continuing(model, layer, stream_of(before), isinstance(before, tuple)), changing(model, layer, change):
        (nll,) = window_nll(model, windows.tokens, len(windows.tokens))
    return nll.tolist()

"""Run the word alone with the output of one head changed: prefix keys and values kept, blocks before it left out.

z_h is what head h gives, in front of W_O (docs/heads.md, z).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.meaning.intervene import lean, leaning
from permeation.meaning.shifted import continuing, keeping
from permeation.models.families import attention_outputs, blocks, stream_of

Z = Float[Tensor, "rows tokens heads d_head"]


@dataclass(frozen=True)
class WordRun:
    """Prompts of one length, read by the untouched model.

    Attributes:
        tokens: the word's last token. repeats: how often each prompt stands in the cache, in a row.
        cache: keys and values of all tokens before it.
        streams: the residual stream at it after each block. in_tuple: whether blocks return it in a tuple.
        z: what each head gives at it.
        gain: by what the family multiplies each coordinate of the attention's output on its way into the stream:
            1 in most; where a norm stands between, the norm's factor as it was (frozen).
        logits: at it.
    """

    tokens: Int[Tensor, "prompts 1"]
    repeats: int
    cache: Any
    streams: Float[Tensor, "layers prompts d_model"]
    in_tuple: bool
    z: Float[Tensor, "layers prompts heads d_head"]
    gain: Float[Tensor, "layers prompts d_model"]
    logits: Float[Tensor, "prompts d_vocab"]


@torch.no_grad()
def read_word(model: Any, sequences: Sequence[Sequence[int]], repeats: int) -> WordRun:
    """Read sequences of one length, at least two tokens each; keep what later runs of their last token need."""
    tokens = torch.tensor([list(sequence) for sequence in sequences], device=model.device)
    cache = model(tokens[:, :-1], use_cache=True).past_key_values
    outputs: list[Any] = []
    z: list[Tensor] = []
    written: list[Tensor] = []
    gains: list[Tensor] = []

    def factor(_norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        gains[-1] = gains[-1] * torch.where(inputs[0] == 0, 0, output / inputs[0])[:, -1]

    def project(_projection: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        z.append(inputs[0][:, -1])
        written.append(output[:, -1])
        gains.append(torch.full_like(output[:, -1], places[len(gains)].scale))

    places = list(attention_outputs(model))
    with ExitStack() as hooks, keeping(cache):
        for block, place in zip(blocks(model), places, strict=True):
            for module, hook in ((block, lambda *call: outputs.append(call[-1])), (place.projection, project)):
                hooks.callback(module.register_forward_hook(hook).remove)
            if place.norm is not None:
                hooks.callback(place.norm.register_forward_hook(factor).remove)
        logits = model(tokens[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1]
    cache.batch_repeat_interleave(repeats)
    return WordRun(
        tokens=tokens[:, -1:],
        repeats=repeats,
        cache=cache,
        streams=torch.stack([stream_of(output)[:, -1] for output in outputs]),
        in_tuple=isinstance(outputs[0], tuple),
        z=torch.stack(z).unflatten(-1, (len(places[0].W_O), -1)),
        gain=torch.stack(gains),
        logits=logits,
    )


@torch.no_grad()
def run_changed(
    model: Any,
    clean: WordRun,
    layer: int,
    heads: Sequence[int],
    new: Float[Tensor, "prompts repeats d_head"],
) -> Float[Tensor, "prompts repeats d_vocab"]:
    """Logits at the word with `new` in place of what one head gives there: in the j-th repeat, of head heads[j].

    layer: from 0, the block whose head is changed. The blocks in front of it are not run.
    """
    if len(heads) != clean.repeats:
        raise PermeationError(f"{len(heads)} changes for {clean.repeats} repeats of each prompt; accepted: as many")
    prompts = len(clean.tokens)
    stream = clean.streams[max(layer - 1, 0)].repeat_interleave(clean.repeats, dim=0)[:, None]
    row, head = torch.arange(prompts * clean.repeats), torch.tensor([*heads] * prompts)

    def change(z: Z) -> Z:
        z = z.clone()
        z[row, -1, head] = new.flatten(0, 1).to(z)
        return z

    with (
        keeping(clean.cache),
        continuing(model, layer, stream, clean.in_tuple),
        changing(model, layer, change),
    ):
        tokens = clean.tokens.repeat_interleave(clean.repeats, dim=0)
        logits = model(tokens, past_key_values=clean.cache, use_cache=True).logits[:, -1]
    return logits.unflatten(0, (prompts, clean.repeats))


def in_order(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """A_1 … A_n, then B_1 … B_n: the prompts of a word's pairs as everything here takes them."""
    return [pair[sense] for sense in range(2) for pair in pairs]


def untouched_leans(
    logits: Float[Tensor, "prompts d_vocab"],
) -> tuple[Float[Tensor, "prompts 1 d_vocab"], Float[Tensor, "prompts"]]:
    """w of each prompt's pair, from the other pairs, and T of each prompt with it; the prompts as of `in_order`."""
    probabilities = logits.softmax(dim=-1)[:, None]
    weights = torch.cat([leaning(probabilities)] * 2)
    return weights, lean(probabilities[:, None], weights)[:, 0, 0]


@contextmanager
def changing(model: Any, layer: int, change: Callable[[Z], Z]) -> Iterator[None]:
    """While it lasts, the heads of a block give change(z) in place of z; after it they are as they were."""
    place = list(attention_outputs(model))[layer]

    def before(_projection: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        z = inputs[0].unflatten(-1, (len(place.W_O), -1))
        return (change(z).flatten(-2), *inputs[1:])

    handle = place.projection.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()

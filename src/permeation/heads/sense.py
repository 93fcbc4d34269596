"""How much of the words' senses a model has: what is measured again of every compressed model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from permeation.frame.device import fast_products
from permeation.heads.word_runs import in_order, read_word, untouched_leans
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.intervene import OUTCOMES
from permeation.meaning.measure_uses import Shifting, measure_uses
from permeation.meaning.residuals import without_unseen_mean
from permeation.meaning.sigma import measure_fans
from permeation.models.families import blocks, stream_of
from permeation.models.tokenizer import by_length

# What is measured of each word (docs/heads.md, Compression and meaning).
MEASURES = ("auc", "separation", "gap", "response")


@dataclass(frozen=True)
class Sense:
    """Each word's figures, in the order of `words`.

    Attributes:
        auc: mean over layers 1 to L of AUC(l) − ½ of direction prompts along the others' contrast.
        separation: σ(L) of strong_A − σ(L) of strong_B.
        gap: T̄_A − T̄_B at the word, in nats. response: R of one direction, mean over layers.
    """

    words: tuple[str, ...]
    auc: Float[np.ndarray, "words"]
    separation: Float[np.ndarray, "words"]
    gap: Float[np.ndarray, "words"]
    response: Float[np.ndarray, "words"]


@torch.no_grad()
def streams_at_word(model: Any, sequences: Sequence[Sequence[int]]) -> Float[np.ndarray, "prompts layers d_model"]:
    """The residual stream at the last token, layers 0 (the embedding) to L, as `permeation.meaning.residuals` has it.

    A plain model and no bridge: what is injected into it stays, and its norms may be folded.
    """
    found: list[Any] = [None] * len(sequences)
    streams: list[torch.Tensor] = []

    def before(_block: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        streams.append((inputs[0] if inputs else named["hidden_states"])[:, -1])

    def after(_block: Any, _inputs: Any, output: Any) -> None:
        streams.append(stream_of(output)[:, -1])

    parts = list(blocks(model))
    handles = [parts[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [part.register_forward_hook(after) for part in parts]
    try:
        for group in by_length(sequences):
            streams.clear()
            model.base_model(torch.tensor([list(sequences[i]) for i in group], device=model.device), use_cache=False)
            for i, own in zip(group, torch.stack(streams, dim=1).float().cpu().numpy(), strict=True):
                found[i] = own
    finally:
        for handle in handles:
            handle.remove()
    return without_unseen_mean(model, np.stack(found))


def measure_sense(
    model: Any,
    activations: Activations,
    sequences: Sequence[Sequence[int]],
    after: int,
    layers: Sequence[int],
    direction_layer: int,
    seed: int,
) -> Sense:
    """What the model, as it is now, makes of the words that have matched pairs.

    activations: the prompts; their residual streams are read anew. after: the token one later, which the
    interventions take. layers: at which R is measured.
    """
    with fast_products():
        own = replace(activations, at_word=streams_at_word(model, sequences))
        pairs = direction_pairs(own.prompts)
        words = tuple(pairs)
        fans = measure_fans(own, direction_layer)
        vocabulary = model.get_output_embeddings().weight.shape[0]
        shifting = Shifting(lambda: model, after, sequences, own, direction_layer, seed, ("one_direction",))
        uses = measure_uses(shifting, layers, 0.0, vocabulary, lambda _: None)
        gaps = [sense_gap(model, [sequences[i] for i in in_order(pairs[word])]) for word in words]
    R = [uses.words[word].response[:, 0, OUTCOMES.index("next_token")] for word in words]
    return Sense(
        words,
        auc=np.array([uses.auc[word][1:].mean() - 0.5 for word in words]),
        separation=np.array([fans[word].separation for word in words]),
        gap=np.array(gaps),
        response=np.mean(R, axis=1),
    )


def sense_gap(model: Any, sequences: Sequence[Sequence[int]]) -> float:
    """T̄_A − T̄_B in nats: how far apart what follows A and what follows B stand, references from the other pairs.

    sequences: of A_1 … A_n, then of B_1 … B_n.
    """
    logits: list[Any] = [None] * len(sequences)
    for group in by_length(sequences):
        run = read_word(model, [sequences[i] for i in group], repeats=1)
        for place, i in enumerate(group):
            logits[i] = run.logits[place].float()
    a, b = untouched_leans(torch.stack(logits))[1].chunk(2)
    return float(a.mean() - b.mean())

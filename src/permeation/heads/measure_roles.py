"""Measure what every head's output at the word does, for every word that can be measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.heads.attention import attention_at_word, deciding
from permeation.heads.roles import causal_share, direct_writing, substitutes
from permeation.heads.word_runs import in_order, read_word, run_changed, untouched_leans
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.intervene import MatchedPairs, clean_auc, lean
from permeation.meaning.seeds import named_generator
from permeation.models.families import attention_outputs
from permeation.models.tokenizer import by_length

MEMORY = 2**26  # bytes that the logits of one run may take


@dataclass(frozen=True)
class WordRoles:
    """What one word's heads do.

    Attributes:
        clean_auc: how well T tells the untouched prompts' senses apart.
        direct: `direct_writing` of each pair. causal: `causal_share` of each kind, and of each pair that was changed.
        attention: of each head at the word, the share on the tokens that decide, mean over prompts.
    """

    clean_auc: float
    direct: Float[np.ndarray, "pairs layers heads"]
    causal: Float[np.ndarray, "kinds changed layers heads"]
    attention: Float[np.ndarray, "layers heads"]


def measure_roles(
    model: Any,
    activations: Activations,
    sequences: Sequence[Sequence[int]],
    most_pairs: int,
    least_auc: float,
    seed: int,
    advance: Callable[[int], object],
) -> tuple[dict[str, WordRoles], list[str]]:
    """Every head of every word that can be measured; and the words that cannot.

    A word can be measured where T tells its untouched prompts' senses apart with an AUC of `least_auc`. Directions,
    references and means come from all of its matched pairs; the first `most_pairs` of them are changed.
    sequences: the tokens of each prompt, in the order of the activations. advance: told how many prompts went through
    how many layers, at the end of those left out. Raises PermeationError where no word can be measured, or a
    distribution is not finite.
    """
    found: dict[str, WordRoles] = {}
    pairs = direction_pairs(activations.prompts)
    W_O = np.stack([place.W_O.float().cpu().numpy() for place in attention_outputs(model)])
    with fast_products():
        read = {word: _read_clean(model, [sequences[i] for i in in_order(own)]) for word, own in pairs.items()}
        clear = {word: clean for word, clean in read.items() if clean_auc(clean.T) >= least_auc}
        if not clear:
            known = ", ".join(f"{word} {clean_auc(clean.T):.2f}" for word, clean in read.items())
            raise PermeationError(
                "no word's senses differ in the next token enough to say which heads bring them (intervene.clean_auc "
                f"is {least_auc:g}; the words' AUC: {known})"
            )
        few = {word: _first(most_pairs, len(clean.T)) for word, clean in clear.items()}
        put = [
            substitutes(clean.z, named_generator(seed, f"heads random {word}"))[few[word]]
            for word, clean in clear.items()
        ]
        weights = torch.cat([clean.weights[few[word]] for word, clean in clear.items()])
        tokens = [clean.tokens[i] for word, clean in clear.items() for i in few[word]]
        changed = _run_changes(model, tokens, np.concatenate(put), weights, advance)
        advance(
            len(W_O) * sum(len(_first(most_pairs, len(each.T))) for word, each in read.items() if word not in clear)
        )
    if not np.isfinite(changed).all():  # pragma: no cover (the untouched model is finite, or ended the stage before)
        raise PermeationError("the next-token distributions hold values that are not finite, where a head is changed")
    ends = np.cumsum([len(some) for some in few.values()])[:-1]
    for (word, clean), own in zip(clear.items(), np.split(changed, ends), strict=True):
        a, b = (activations.at_word[[pair[sense] for pair in pairs[word]]] for sense in range(2))
        directions = MatchedPairs.of(word, a, b).direction[:, 1:]
        distance = np.linalg.norm(a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64), axis=-1)[1:]
        found[word] = WordRoles(
            clean_auc=clean_auc(clean.T),
            direct=direct_writing(clean.z, clean.gain, W_O, directions, distance),
            causal=np.moveaxis(causal_share(clean.T[few[word]], own), 1, 0),
            attention=clean.attention.mean(axis=0),
        )
    return found, [word for word in pairs if word not in found]


def _first(most_pairs: int, prompts: int) -> list[int]:
    """Where the prompts of the first pairs stand among A_1 … A_n, B_1 … B_n."""
    n = prompts // 2
    return [sense * n + i for sense in range(2) for i in range(min(most_pairs, n))]


@dataclass(frozen=True)
class _Clean:
    """What the untouched model makes of one word's prompts, A_1 … A_n, B_1 … B_n."""

    tokens: Sequence[Sequence[int]]
    z: Float[np.ndarray, "prompts layers heads d_head"]
    gain: Float[np.ndarray, "prompts layers d_model"]
    attention: Float[np.ndarray, "prompts layers heads"]
    weights: Float[Tensor, "prompts 1 d_vocab"]
    T: Float[np.ndarray, "prompts"]


def _read_clean(model: Any, tokens: Sequence[Sequence[int]]) -> _Clean:
    z: list[Any] = [None] * len(tokens)
    gain, attention, logits = z.copy(), z.copy(), z.copy()
    twins = [*tokens[len(tokens) // 2 :], *tokens[: len(tokens) // 2]]
    for group in by_length(tokens):
        some = [tokens[i] for i in group]
        run, looks = read_word(model, some, repeats=1), attention_at_word(model, some)
        for place, i in enumerate(group):
            z[i], gain[i] = (each[:, place].cpu().double().numpy() for each in (run.z, run.gain))
            attention[i] = looks[place][..., deciding(tokens[i], twins[i])].sum(axis=-1)
            logits[i] = run.logits[place].float()
    weights, leans = untouched_leans(torch.stack(logits))
    T = leans.cpu().double().numpy()
    if not np.isfinite(T).all():  # pragma: no cover (fetch_model has seen that the model is finite)
        raise PermeationError("the next-token distributions hold values that are not finite")
    return _Clean(tokens, np.stack(z), np.stack(gain), np.stack(attention), weights, T)


def _run_changes(
    model: Any,
    tokens: Sequence[Sequence[int]],
    new: Float[np.ndarray, "prompts kinds layers heads d_head"],
    weights: Float[Tensor, "prompts 1 d_vocab"],
    advance: Callable[[int], object],
) -> Float[np.ndarray, "prompts kinds layers heads"]:
    """T with each head changed in each way, one head at a time; all heads of a layer and some prompts run together."""
    prompts, kinds, layers, heads, d_head = new.shape
    which = np.repeat(np.arange(heads), kinds).tolist()
    at_once = max(1, MEMORY // (4 * len(which) * weights.shape[-1]))
    changed = np.empty((prompts, kinds, layers, heads))
    for group in by_length(tokens):
        for some in np.split(group, range(at_once, len(group), at_once)):
            run = read_word(model, [tokens[i] for i in some], repeats=len(which))
            for layer in range(layers):
                put = new[some, :, layer].swapaxes(1, 2).reshape(len(some), len(which), d_head).astype(np.float32)
                after = run_changed(model, run, layer, which, torch.tensor(put, device=model.device))
                leans = lean(after.float().softmax(dim=-1)[:, :, None], weights[some])[..., 0]
                changed[some, :, layer] = leans.cpu().numpy().reshape(len(some), heads, kinds).swapaxes(1, 2)
                advance(len(some))
    return changed

"""Measure what every head's output at the word does, for every word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from permeation.heads.word_runs import read_word, run_changed
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.intervene import MatchedPairs, clean_auc, lean, leaning
from permeation.meaning.seeds import named_generator
from permeation.models.families import attention_outputs
from permeation.models.tokenizer import by_length

MEMORY = 2**26  # bytes that the logits of one run may take


@dataclass(frozen=True)
class WordRoles:
    """What one word's heads do.

    Attributes:
        clean_auc: how well T tells the untouched prompts' senses apart.
        direct: `direct_writing` of each pair. causal: `causal_share` of each kind and pair.
        attention: of each head at the word, the share on the tokens that decide, mean over prompts.
    """

    clean_auc: float
    direct: Float[np.ndarray, "pairs layers heads"]
    causal: Float[np.ndarray, "kinds pairs layers heads"]
    attention: Float[np.ndarray, "layers heads"]


def measure_roles(
    model: Any,
    activations: Activations,
    sequences: Sequence[Sequence[int]],
    most_pairs: int,
    seed: int,
    advance: Callable[[int], object],
) -> dict[str, WordRoles]:
    """Every head of every word with matched pairs, of which the first `most_pairs` are taken.

    sequences: the tokens of each prompt, in the order of the activations. advance: told how many prompts went through
    how many layers. Raises PermeationError where a distribution is not finite.
    """
    pairs = {word: own[:most_pairs] for word, own in direction_pairs(activations.prompts).items()}
    prompts = [[pair[sense] for sense in range(2) for pair in own] for own in pairs.values()]
    of_word = np.split(np.arange(sum(map(len, prompts))), np.cumsum([len(own) for own in prompts])[:-1])
    tokens = [sequences[i] for own in prompts for i in own]
    twins = [sequences[i] for own in prompts for i in (*own[len(own) // 2 :], *own[: len(own) // 2])]
    with fast_products():
        clean = _read_clean(model, tokens, twins)
        weights = torch.cat([torch.cat([leaning(clean.probabilities[own])] * 2) for own in of_word])
        T = lean(clean.probabilities[:, None], weights)[:, 0, 0].cpu().numpy().astype(np.float64)
        new = np.concatenate(
            [
                substitutes(clean.z[own], named_generator(seed, f"heads random {word}"))
                for word, own in zip(pairs, of_word, strict=True)
            ]
        )
        changed = _run_changes(model, tokens, new, weights, advance)
    if not (np.isfinite(T).all() and np.isfinite(changed).all()):
        raise PermeationError("the next-token distributions hold values that are not finite, where a head is changed")
    W_O = np.stack([place.W_O.float().cpu().numpy() for place in attention_outputs(model)])
    found = {}
    for (word, own), some in zip(pairs.items(), of_word, strict=True):
        a, b = (activations.at_word[[pair[sense] for pair in own]] for sense in range(2))
        directions = MatchedPairs.of(word, a, b).direction[:, 1:]
        distance = np.linalg.norm(a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64), axis=-1)[1:]
        found[word] = WordRoles(
            clean_auc=clean_auc(T[some]),
            direct=direct_writing(clean.z[some], clean.gain[some], W_O, directions, distance),
            causal=np.moveaxis(causal_share(T[some], changed[some]), 1, 0),
            attention=clean.attention[some].mean(axis=0),
        )
    return found


@dataclass(frozen=True)
class _Clean:
    """What the untouched model makes of the prompts at their word."""

    z: Float[np.ndarray, "prompts layers heads d_head"]
    gain: Float[np.ndarray, "prompts layers d_model"]
    attention: Float[np.ndarray, "prompts layers heads"]
    probabilities: Float[Tensor, "prompts 1 d_vocab"]


def _read_clean(model: Any, tokens: Sequence[Sequence[int]], twins: Sequence[Sequence[int]]) -> _Clean:
    z, gain, attention, probabilities = ([None] * len(tokens) for _ in range(4))  # type: list[Any]
    for group in by_length(tokens):
        some = [tokens[i] for i in group]
        run, looks = read_word(model, some, repeats=1), attention_at_word(model, some)
        for place, i in enumerate(group):
            z[i], gain[i] = (each[:, place].float().cpu().numpy() for each in (run.z, run.gain))
            attention[i] = looks[place][..., deciding(tokens[i], twins[i])].sum(axis=-1)
            probabilities[i] = run.logits[place].float().softmax(dim=-1)
    return _Clean(np.stack(z), np.stack(gain), np.stack(attention), torch.stack(probabilities)[:, None])


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


def measurable(words: Mapping[str, WordRoles], least_auc: float) -> dict[str, WordRoles]:
    """Those whose senses the untouched next-token distributions tell apart.

    Raises PermeationError where there is none: no head can then be said to bring a sense.
    """
    found = {word: each for word, each in words.items() if each.clean_auc >= least_auc}
    if not found:
        raise PermeationError(
            "no word's senses differ in the next token enough to say which heads bring them (intervene.clean_auc is "
            f"{least_auc:g}; the words' AUC: {', '.join(f'{word} {each.clean_auc:.2f}' for word, each in words.items())})"
        )
    return found

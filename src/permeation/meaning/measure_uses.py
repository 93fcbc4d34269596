"""Shift the residual stream of every word's matched pairs and measure what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.decode_words import decode_words
from permeation.meaning.factors import factorise_words, real_sigmas, word_residuals
from permeation.meaning.intervene import (
    KINDS,
    OUTCOMES,
    MatchedPairs,
    by_length,
    clean_auc,
    lean,
    leaning,
    response_to_shift,
)
from permeation.meaning.shifted import CleanRun, read_clean, run_shifted
from permeation.meaning.uses import Uses, WordUse
from permeation.models.families import final_norm

NEUTRAL = ","  # what follows the word where the second outcome is measured
MEMORY = 2**30  # bytes that the clean distributions of the words in hand may take


def measure_uses(
    model: Any,
    after: int,
    sequences: Sequence[Sequence[int]],
    activations: Activations,
    direction_layer: int,
    layers: Sequence[int],
    least_auc: float,
    seed: int,
    advance: Callable[[int], object],
) -> Uses:
    """Shift the stream of every word's matched pairs at every layer, in every kind.

    sequences: the tokens of each prompt, in the order of the activations. after: the token one later. advance: told
    how many prompts went through how many layers.
    Raises PermeationError where no word has matched pairs, or a distribution is not finite.
    """
    found: dict[str, WordUse] = {}
    pairs = direction_pairs(activations.prompts)
    words = list(pairs)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    largest = max((len(each) for each in pairs.values()), default=1)
    at_once = max(1, MEMORY // (2 * largest * 2 * vocabulary * 4))
    for start in range(0, len(words), at_once):
        found |= _measure_words(
            model,
            after,
            sequences,
            activations,
            {word: pairs[word] for word in words[start : start + at_once]},
            direction_layer,
            layers,
            seed,
            advance,
        )
    decoded = decode_words(activations, direction_layer, "direction", "own", 1, 1, seed)
    graded = word_residuals(activations, direction_layer)
    g = factorise_words(list(graded.values()), real_sigmas(list(graded.values()), "final"), "final").factors.g[0]
    return Uses(
        layers=layers,
        last=activations.at_word.shape[1] - 1,
        words=found,
        least_auc=least_auc,
        auc={word: each.auc for word, each in decoded.words.items()},
        g=dict(zip(graded, g, strict=True)),
    )


def _measure_words(
    model: Any,
    after: int,
    sequences: Sequence[Sequence[int]],
    activations: Activations,
    pairs: Mapping[str, Sequence[tuple[int, int]]],
    direction_layer: int,
    layers: Sequence[int],
    seed: int,
    advance: Callable[[int], object],
) -> dict[str, WordUse]:
    """`measure_uses` of some words, whose clean distributions stand in memory together."""
    matched = [
        MatchedPairs.of(word, *(activations.at_word[[pair[sense] for pair in each]] for sense in range(2)))
        for word, each in pairs.items()
    ]
    prompts = [index for each in pairs.values() for sense in range(2) for index in (pair[sense] for pair in each)]
    of_word = np.split(np.arange(len(prompts)), np.cumsum([2 * each.pairs for each in matched])[:-1])
    groups = list(by_length([sequences[i] for i in prompts]))
    runs: list[CleanRun] = []
    probabilities = torch.empty(len(prompts), 2, model.get_output_embeddings().weight.shape[0])
    for group in groups:
        runs.append(read_clean(model, [sequences[prompts[i]] for i in group], after, len(KINDS)))
        probabilities[group] = runs[-1].logits.float().softmax(dim=-1).cpu()
    weights = torch.cat([torch.cat([leaning(probabilities[chosen])] * 2) for chosen in of_word])
    clean = np.empty((len(prompts), len(OUTCOMES)))
    clean[:, :2] = lean(probabilities[:, None], weights)[:, 0].numpy()
    clean[:, 2] = np.concatenate([each.sigma(each.stream[:, None, -1], direction_layer)[:, 0] for each in matched])

    shifted = np.empty((len(layers), len(prompts), len(KINDS), len(OUTCOMES)))
    ends = np.empty((len(layers), len(prompts), len(KINDS), activations.at_word.shape[2]), np.float32)
    shifts = {layer: np.concatenate([each.shifts(layer, seed) for each in matched]) for layer in layers}
    for group, run in zip(groups, runs, strict=True):
        own = weights[group].to(model.device)
        for at, layer in enumerate(layers):
            logits, end = run_shifted(model, run, layer, torch.tensor(shifts[layer][group], device=model.device))
            shifted[at, group, :, :2] = lean(logits.float().softmax(dim=-1), own).cpu().numpy()
            ends[at, group] = end.float().cpu().numpy()
            advance(len(group))
    if not (np.isfinite(clean).all() and np.isfinite(shifted[..., :2]).all()):
        raise PermeationError(
            "the next-token distributions hold values that are not finite, where the stream is shifted"
        )
    if isinstance(final_norm(model), torch.nn.LayerNorm):  # as in `residuals_at`: the model cannot see the mean
        ends -= ends.mean(axis=-1, keepdims=True)
    for each, chosen in zip(matched, of_word, strict=True):
        for at in range(len(layers)):
            shifted[at, chosen, :, 2] = each.sigma(ends[at, chosen], direction_layer)
    return {
        each.word: WordUse(
            clean_auc(clean[chosen, 0]),
            np.array(
                [
                    np.stack(
                        [response_to_shift(clean[chosen, k], part[chosen, :, k]) for k in range(len(OUTCOMES))], axis=-1
                    )
                    for part in shifted
                ]
            ),
        )
        for each, chosen in zip(matched, of_word, strict=True)
    }

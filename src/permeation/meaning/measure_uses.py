"""Shift the residual stream of every word's matched pairs and measure what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from permeation.frame.device import kept_pages
from permeation.frame.engine import Engine, Local, ModelRun
from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.decode_words import decode_words
from permeation.meaning.factors import factorise_words, real_sigmas, word_residuals
from permeation.meaning.intervene import (
    KINDS,
    OUTCOMES,
    MatchedPairs,
    clean_auc,
    lean,
    leaning,
    response_to_shift,
)
from permeation.meaning.residuals import without_unseen_mean
from permeation.meaning.shifted import CleanRun, read_clean, run_shifted
from permeation.meaning.uses import Uses, WordUse
from permeation.models.tokenizer import by_length

NEUTRAL = ","  # what follows the word where the second outcome is measured
MEMORY = 2**30  # bytes that the clean distributions of the words in hand may take


@dataclass(frozen=True)
class Shifting(ModelRun):
    """What the interventions on all words share.

    Attributes:
        after: the token one later. sequences: the tokens of each prompt, in the order of the activations.
        direction_layer: of σ. kinds: what is done to the stream, some of intervene.KINDS.
    """

    after: int
    sequences: Sequence[Sequence[int]]
    activations: Activations
    direction_layer: int
    seed: int
    kinds: Sequence[str] = KINDS

    def __call__(self, task: Shifts, progress: Callable[[int], object]) -> dict[str, WordUse]:
        """What the shifts at these layers do to these words."""
        return _measure_words(self, task, progress)


@dataclass(frozen=True)
class Shifts:
    """Words with their matched pairs of prompts, and the layers to shift them at."""

    pairs: Mapping[str, Sequence[tuple[int, int]]]
    layers: Sequence[int]


def measure_uses(
    shifting: Shifting,
    layers: Sequence[int],
    least_auc: float,
    vocabulary: int,
    advance: Callable[[int], object],
    engine: Engine | None = None,
) -> Uses:
    """Shift the stream of every word's matched pairs at every layer, in every kind.

    vocabulary: how many tokens the model knows. advance: told how many prompts went through how many layers.
    engine: what measures them, each worker some of the layers; by default this process.
    Raises PermeationError where no word has matched pairs, or a distribution is not finite.
    """
    engine, activations = engine or Local(), shifting.activations
    direction_layer, seed = shifting.direction_layer, shifting.seed
    # What the interventions are set beside comes first: it may be missing, and they take minutes.
    decoded = decode_words(activations, direction_layer, "direction", "own", 1, 1, seed)
    graded = word_residuals(activations, direction_layer)
    g = factorise_words(list(graded.values()), real_sigmas(list(graded.values()), "final"), "final").factors.g[0]
    pairs = direction_pairs(activations.prompts)
    words = list(pairs)
    largest = max((len(each) for each in pairs.values()), default=1)
    at_once = max(1, MEMORY // (2 * largest * 2 * vocabulary * 4))
    tasks = [
        (f"{', '.join(some)}, layers {', '.join(map(str, part))}", Shifts({word: pairs[word] for word in some}, part))
        for some in (words[start : start + at_once] for start in range(0, len(words), at_once))
        for part in (layers[i :: engine.workers] for i in range(engine.workers))
        if part
    ]
    found: dict[str, dict[int, np.ndarray]] = {word: {} for word in words}
    clean: dict[str, float] = {}
    for (_, task), measured in zip(tasks, engine.map(shifting, tasks, advance), strict=True):
        for word, use in measured.items():
            clean[word] = use.clean_auc
            found[word] |= dict(zip(task.layers, use.response, strict=True))
    return Uses(
        layers=layers,
        last=activations.at_word.shape[1] - 1,
        words={word: WordUse(clean[word], np.array([found[word][layer] for layer in layers])) for word in words},
        least_auc=least_auc,
        auc={word: each.auc for word, each in decoded.words.items()},
        g=dict(zip(graded, g, strict=True)),
    )


def _measure_words(shifting: Shifting, task: Shifts, advance: Callable[[int], object]) -> dict[str, WordUse]:
    """What one task's shifts do; the clean distributions of its words stand in memory together."""
    model, sequences, activations, after = shifting.model, shifting.sequences, shifting.activations, shifting.after
    pairs, layers = task.pairs, task.layers
    direction_layer, seed = shifting.direction_layer, shifting.seed
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
        runs.append(read_clean(model, [sequences[prompts[i]] for i in group], after, len(shifting.kinds)))
        probabilities[group] = runs[-1].logits.float().softmax(dim=-1).cpu()
    weights = torch.cat([torch.cat([leaning(probabilities[chosen])] * 2) for chosen in of_word])
    clean = np.empty((len(prompts), len(OUTCOMES)))
    clean[:, :2] = lean(probabilities[:, None], weights)[:, 0].numpy()
    clean[:, 2] = np.concatenate([each.sigma(each.stream[:, None, -1], direction_layer)[:, 0] for each in matched])

    shifted = np.empty((len(layers), len(prompts), len(shifting.kinds), len(OUTCOMES)))
    ends = np.empty((len(layers), len(prompts), len(shifting.kinds), activations.at_word.shape[2]), np.float32)
    kinds = [KINDS.index(kind) for kind in shifting.kinds]
    shifts = {
        layer: torch.tensor(np.concatenate([each.shifts(layer, seed)[:, kinds] for each in matched]), dtype=torch.float)
        for layer in layers
    }
    with kept_pages():
        for group, run in zip(groups, runs, strict=True):
            own = weights[group].to(model.device)
            for at, layer in enumerate(layers):
                logits, end = run_shifted(model, run, layer, shifts[layer][group].to(model.device))
                shifted[at, group, :, :2] = lean(logits.float().softmax(dim=-1), own).cpu().numpy()
                ends[at, group] = end.float().cpu().numpy()
                advance(len(group))
    if not (np.isfinite(clean).all() and np.isfinite(shifted[..., :2]).all()):
        raise PermeationError(
            "the next-token distributions hold values that are not finite, where the stream is shifted"
        )
    ends = without_unseen_mean(model, ends)
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

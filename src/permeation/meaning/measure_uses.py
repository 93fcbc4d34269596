"""Shift the residual stream of every word's matched pairs and measure what follows: R by layer, kind and outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame import progress
from permeation.frame.engine import ModelRun
from permeation.frame.seeds import named_generator
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.bootstrap import interval, resample_words
from permeation.meaning.decode import decode_words
from permeation.meaning.factors import factorise, word_residuals
from permeation.meaning.intervene import (
    CONTROLS,
    KINDS,
    OUTCOMES,
    MatchedPairs,
    clean_auc,
    lean,
    leaning,
    response_to_shift,
)
from permeation.meaning.residuals import without_unseen_mean
from permeation.meaning.rows import curve
from permeation.meaning.runs import TailRun, read_tail, resume
from permeation.models.families import blocks, stream_of
from permeation.models.tokenizer import by_length

NEUTRAL = ","  # what follows the word where the second outcome is measured
ONSET, RISE = 0.25, 0.75  # R at which the next token begins to follow, and at which it follows again after the plateau


@dataclass(frozen=True)
class Clean:
    """What the untouched model makes of all words' matched pairs: A_1 … A_n, B_1 … B_n of each word, word by word.

    Attributes:
        words: by name, where its prompts stand, and the pairs.
        groups: the prompts of each length, and their run.
        weights: w of each prompt's pair. outcomes: T at the word and one token later, and σ(L).
    """

    words: Mapping[str, tuple[slice, MatchedPairs]]
    groups: Sequence[tuple[np.ndarray, TailRun]]
    weights: Float[Tensor, "prompts 2 d_vocab"]
    outcomes: Float[np.ndarray, "prompts outcomes"]


@dataclass(frozen=True)
class Shifting(ModelRun):
    """The interventions on all words at one layer; called with the layer, it gives R of each word.

    Attributes:
        after: the token one later. sequences: the tokens of each prompt, in the order of the activations.
        direction_layer: of σ.
    """

    after: int
    sequences: Sequence[Sequence[int]]
    activations: Activations
    direction_layer: int
    seed: int

    @cached_property
    def clean(self) -> Clean:
        """The untouched model, read once."""
        words: dict[str, tuple[slice, MatchedPairs]] = {}
        sequences: list[list[int]] = []
        for word, pairs in direction_pairs(self.activations.prompts).items():
            prompts, start = np.transpose(pairs).ravel(), len(sequences)
            sequences += [[*self.sequences[i], self.after] for i in prompts]
            matched = MatchedPairs.of(word, *np.split(self.activations.at_word[prompts], 2))
            words[word] = slice(start, len(sequences)), matched
        groups = []
        probabilities = torch.empty(len(sequences), 2, self.model.get_output_embeddings().weight.shape[0])
        for group in by_length(sequences):
            groups.append((group, read_tail(self.model, [sequences[i] for i in group], 2, len(KINDS))))
            probabilities[group] = groups[-1][1].logits.float().softmax(dim=-1).cpu()
        weights = torch.cat([leaning(probabilities[own]).repeat(2, 1, 1) for own, _ in words.values()])
        sigma = [pairs.sigma(pairs.stream[:, None, -1], self.direction_layer) for _, pairs in words.values()]
        leans = lean(probabilities[:, None], weights)[:, 0].numpy()
        return Clean(words, groups, weights, np.concatenate([leans, np.concatenate(sigma)], axis=1))

    def __call__(self, layer: int) -> dict[str, Float[np.ndarray, "kinds outcomes"]]:
        """R of each word with the stream shifted after `layer` blocks, from 1 to L."""
        clean = self.clean
        shifts = np.concatenate([pairs.shifts(layer, self.seed) for _, pairs in clean.words.values()])
        outcomes = np.empty((*shifts.shape[:2], len(OUTCOMES)))
        ends = np.empty_like(shifts, dtype=np.float32)
        for group, run in clean.groups:
            logits, end = run_shifted(self.model, run, layer, torch.tensor(shifts[group]).to(run.streams))
            leans = lean(logits.float().softmax(dim=-1), clean.weights[group].to(logits.device))
            outcomes[group, :, :2], ends[group] = leans.cpu().numpy(), end.float().cpu().numpy()
        ends = without_unseen_mean(self.model, ends)
        for own, pairs in clean.words.values():
            outcomes[own, :, 2] = pairs.sigma(ends[own], self.direction_layer)
        return {word: response_to_shift(clean.outcomes[own], outcomes[own]) for word, (own, _) in clean.words.items()}


def run_shifted(
    model: Any, clean: TailRun, layer: int, shift: Float[Tensor, "prompts repeats d_model"]
) -> tuple[Float[Tensor, "prompts repeats 2 d_vocab"], Float[Tensor, "prompts repeats d_model"]]:
    """Logits at both tokens, and the last block's output at the word, with φ(layer) + shift at the word.

    The token after the word keeps its own stream at that layer and reads the changed word from there on.
    """
    stream = clean.streams[layer - 1][:, None].repeat(1, clean.repeats, 1, 1)
    stream[:, :, 0] += shift
    last: list[Tensor] = []
    handle = blocks(model)[-1].register_forward_hook(lambda *call: last.append(stream_of(call[-1])))
    try:
        logits = resume(model, clean, layer, stream)
    finally:
        handle.remove()
    return logits, last[-1][:, 0].unflatten(0, shift.shape[:2])


@dataclass(frozen=True)
class Uses:
    """The interventions on every word, beside decodability and g.

    Attributes:
        layers: at which the stream was shifted. last: L.
        words: R of each word whose senses the untouched next-token distributions tell apart. others: the other words.
        auc, g: of each word at every layer 0 to L, for the comparison; g of graded words only.
        outcomes: what R is measured in, in the order of the arrays.
    """

    layers: Sequence[int]
    last: int
    words: Mapping[str, Float[np.ndarray, "layers kinds outcomes"]]
    others: Sequence[str]
    auc: Mapping[str, Float[np.ndarray, "all_layers"]]
    g: Mapping[str, Float[np.ndarray, "all_layers"]]
    outcomes: Sequence[str] = OUTCOMES

    @property
    def depth(self) -> Float[np.ndarray, "layers"]:
        """l / L of the layers."""
        return np.array(self.layers) / self.last

    def response(self, kind: str, outcome: str | None = None) -> Float[np.ndarray, "words layers"]:
        """R of the words, by default in the first outcome."""
        column = self.outcomes.index(outcome or self.outcomes[0])
        found = [R[:, KINDS.index(kind), column] for R in self.words.values()]
        return np.reshape(found, (-1, len(self.layers)))

    def summary(self, resamples: int, seed: int) -> dict[str, Any]:
        """The headline figures; without words their number and names only.

        onset: the first depth with R ≥ ¼, and above every control. second_rise: with R ≥ ¾. Both are medians over
        words; a word that never gets there counts as beyond the last layer; null where the median is such.
        plateau: mean R between them. All with the middle 95 % of resampled words. response: mean R of one direction.
        control_max: the largest |mean R| of a control.
        """
        found: dict[str, Any] = {"words": len(self.words), "unmeasurable_words": list(self.others)}
        if not self.words:
            return found
        R = self.response("one_direction")
        control_max = float(max(np.abs(self.response(kind).mean(axis=0)).max() for kind in CONTROLS))
        weights = resample_words(len(R), resamples, named_generator(seed, "intervene words"))
        onset, rise = (self._median_depth(R, level, weights) for level in (max(ONSET, control_max), RISE))
        between = (self.depth >= (onset["value"] or np.inf)) & (self.depth < (rise["value"] or np.inf))
        plateau = dict.fromkeys(("value", "low", "high"))
        if between.any():
            level = R[:, between].mean(axis=1)
            low, high = interval(weights @ level / len(R))
            plateau = {"value": float(level.mean()), "low": float(low), "high": float(high)}
        return found | {
            "onset": onset,
            "plateau": plateau,
            "second_rise": rise,
            "response": {str(layer): float(one) for layer, one in zip(self.layers, R.mean(axis=0), strict=True)},
            "control_max": control_max,
        }

    def _median_depth(
        self, R: Float[np.ndarray, "words layers"], level: float, weights: np.ndarray
    ) -> dict[str, float | None]:
        """The median over words of the first depth at which R reaches the level."""
        reached = np.greater_equal(R, level)
        layers = np.where(reached.any(axis=1), np.array(self.layers)[reached.argmax(axis=1)], np.inf)
        drawn = [np.median(np.repeat(layers, row)) for row in weights]
        values = [np.median(layers), *np.quantile(drawn, (0.025, 0.975), method="nearest")]
        depths = [float(value) / self.last if np.isfinite(value) else None for value in values]
        return dict(zip(("value", "low", "high"), depths, strict=True))

    def rows(self) -> list[dict[str, Any]]:
        """R per outcome, kind, word (and their mean, null without any) and layer: plots/intervene.json."""
        shape = (len(self.layers), len(KINDS), len(self.outcomes))
        mean = np.mean(list(self.words.values()), axis=0) if self.words else np.full(shape, None)
        return [
            row | {"word": word}
            for o, outcome in enumerate(self.outcomes)
            for k, kind in enumerate(KINDS)
            for word, R in {**self.words, "mean": mean}.items()
            for row in curve(outcome, kind, R[:, k, o], depth=self.depth)
        ]

    def depth_rows(self) -> list[dict[str, Any]]:
        """AUC, g and R of one direction on one axis, for plots/depths.json."""
        used, rows = dict(zip(self.words, self.response("one_direction"), strict=True)), []
        for word in (each for each in self.auc if each in self.g):
            rows += curve(word, "auc", self.auc[word])
            rows += curve(word, "response", used[word], depth=self.depth) if word in used else []
            rows += curve(word, "g", self.g[word])
        return rows


def measure_uses(
    shifting: Shifting,
    layers: Sequence[int],
    least_auc: float,
    run: Callable[[Shifting, Sequence[int]], Iterable[Any]] = map,
) -> Uses:
    """Shift the stream of every word's matched pairs at every layer, in every kind.

    least_auc: a word counts where T tells its untouched prompts' senses apart so well; without any, nothing is shifted.
    run: an ordered map, the builtin one or an engine's. Raises PermeationError where no word has matched pairs.
    """
    activations, direction_layer = shifting.activations, shifting.direction_layer
    decoded = decode_words(activations, direction_layer, "direction", "own", 1, 1, shifting.seed)
    graded = word_residuals(activations, direction_layer)
    clean = shifting.clean
    clear = [word for word, (own, _) in clean.words.items() if clean_auc(clean.outcomes[own, 0]) >= least_auc]
    found = list(progress.each(run(shifting, layers), "interventions", len(layers))) if clear else []
    return Uses(
        layers=layers,
        last=activations.at_word.shape[1] - 1,
        words={word: np.stack([at_layer[word] for at_layer in found]) for word in clear},
        others=[word for word in clean.words if word not in clear],
        auc={word: each.auc for word, each in decoded.words.items()},
        g=dict(zip(graded, factorise(graded.values(), "final").g, strict=True)),
    )

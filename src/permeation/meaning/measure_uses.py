"""Shift the residual stream of every word's matched pairs and measure what follows: R by layer and kind."""

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
from permeation.meaning.intervene import CONTROLS, KINDS, MatchedPairs, clean_auc, lean, leaning, response_to_shift
from permeation.meaning.rows import curve
from permeation.meaning.runs import LastRun, read_last, resume
from permeation.models.tokenizer import by_length

ONSET, RISE = 0.25, 0.75  # R at which the next token begins to follow, and at which it follows again after the plateau


@dataclass(frozen=True)
class Clean:
    """What the untouched model makes of all words' matched pairs: A_1 … A_n, B_1 … B_n of each word, word by word.

    Attributes:
        words: by name, where its prompts stand, and the pairs.
        groups: the prompts of each length, and their run.
        weights: w of each prompt's pair. T: of each prompt.
    """

    words: Mapping[str, tuple[slice, MatchedPairs]]
    groups: Sequence[tuple[np.ndarray, LastRun]]
    weights: Float[Tensor, "prompts d_vocab"]
    T: Float[np.ndarray, "prompts"]


@dataclass(frozen=True)
class Shifting(ModelRun):
    """The interventions on all words at one layer; called with the layer, it gives R of each word.

    Attributes:
        sequences: the tokens of each prompt, in the order of the activations. kinds: of KINDS.
    """

    sequences: Sequence[Sequence[int]]
    activations: Activations
    seed: int
    kinds: Sequence[str] = KINDS

    @cached_property
    def clean(self) -> Clean:
        """The untouched model, read once."""
        words: dict[str, tuple[slice, MatchedPairs]] = {}
        sequences: list[Sequence[int]] = []
        for word, pairs in direction_pairs(self.activations.prompts).items():
            prompts, start = np.transpose(pairs).ravel(), len(sequences)
            sequences += [self.sequences[i] for i in prompts]
            matched = MatchedPairs.of(word, *np.split(self.activations.at_word[prompts], 2))
            words[word] = slice(start, len(sequences)), matched
        groups = []
        probabilities = torch.empty(len(sequences), self.model.get_output_embeddings().weight.shape[0])
        for group in by_length(sequences):
            groups.append((group, read_last(self.model, [sequences[i] for i in group], len(self.kinds))))
            probabilities[group] = groups[-1][1].logits.float().softmax(dim=-1).cpu()
        weights = torch.cat([leaning(probabilities[own]).repeat(2, 1) for own, _ in words.values()])
        return Clean(words, groups, weights, lean(probabilities[:, None], weights)[:, 0].double().numpy())

    def __call__(self, layer: int) -> dict[str, Float[np.ndarray, "kinds"]]:
        """R of each word with the stream shifted after `layer` blocks, from 1 to L."""
        clean, kinds = self.clean, [KINDS.index(kind) for kind in self.kinds]
        shifts = np.concatenate([pairs.shifts(layer, self.seed)[:, kinds] for _, pairs in clean.words.values()])
        T = np.empty(shifts.shape[:2])
        for group, run in clean.groups:
            stream = run.streams[layer - 1][:, None] + torch.tensor(shifts[group]).to(run.streams)
            p = resume(self.model, run, layer, stream).float().softmax(dim=-1)
            T[group] = lean(p, clean.weights[group].to(p.device)).cpu().numpy()
        return {word: response_to_shift(clean.T[own], T[own]) for word, (own, _) in clean.words.items()}


@dataclass(frozen=True)
class Uses:
    """The interventions on every word, beside decodability and g.

    Attributes:
        layers: at which the stream was shifted. last: L.
        words: R of each word whose senses the untouched next-token distributions tell apart. others: the other words.
        auc, g: of each word at every layer 0 to L, for the comparison; g of graded words only.
        outcome: what R is measured in.
    """

    layers: Sequence[int]
    last: int
    words: Mapping[str, Float[np.ndarray, "layers kinds"]]
    others: Sequence[str]
    auc: Mapping[str, Float[np.ndarray, "all_layers"]]
    g: Mapping[str, Float[np.ndarray, "all_layers"]]
    outcome: str = "next_token"

    @property
    def depth(self) -> Float[np.ndarray, "layers"]:
        """l / L of the layers."""
        return np.array(self.layers) / self.last

    def response(self, kind: str) -> Float[np.ndarray, "words layers"]:
        """R of the words."""
        return np.reshape([R[:, KINDS.index(kind)] for R in self.words.values()], (-1, len(self.layers)))

    def summary(self, resamples: int, seed: int) -> dict[str, Any]:
        """The headline figures; without words their number and names only.

        onset: the first depth with R ≥ ¼ and ≥ control_max. second_rise: with R ≥ ¾. Both are medians over
        words; a word that never gets there counts as beyond the last layer; null where the median is such.
        plateau: mean R between them. All with the middle 95 % of resampled words. response: mean R of one direction.
        control_max: the largest |mean R| of a control over layers.
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
        """R per kind, word (and their mean, null without any) and layer: plots/intervene.json."""
        mean = (
            np.mean(list(self.words.values()), axis=0) if self.words else np.full((len(self.layers), len(KINDS)), None)
        )
        return [
            row | {"word": word}
            for k, kind in enumerate(KINDS)
            for word, R in {**self.words, "mean": mean}.items()
            for row in curve(self.outcome, kind, R[:, k], depth=self.depth)
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
    direction_layer: int,
    least_auc: float,
    run: Callable[[Shifting, Sequence[int]], Iterable[Any]] = map,
) -> Uses:
    """Shift the stream of every word's matched pairs at every layer, in every kind.

    direction_layer: of σ, for g. least_auc: a word counts where T tells its untouched prompts' senses apart so well;
    without any, nothing is shifted.
    run: an ordered map, the builtin one or an engine's. Raises PermeationError where no word has matched pairs.
    """
    activations = shifting.activations
    decoded = decode_words(activations, direction_layer, "direction", "own", 1, 1, shifting.seed)
    graded = word_residuals(activations, direction_layer)
    clean = shifting.clean
    clear = [word for word, (own, _) in clean.words.items() if clean_auc(clean.T[own]) >= least_auc]
    found = list(progress.each(run(shifting, layers), "interventions", len(layers))) if clear else []
    return Uses(
        layers=layers,
        last=activations.at_word.shape[1] - 1,
        words={word: np.stack([at_layer[word] for at_layer in found]) for word in clear},
        others=[word for word in clean.words if word not in clear],
        auc={word: each.auc for word, each in decoded.words.items()},
        g=dict(zip(graded, factorise(graded.values(), "final").g, strict=True)),
    )

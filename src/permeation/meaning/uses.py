"""What the interventions on every word gave, beside decodability and g."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.meaning.bootstrap import resample_words
from permeation.meaning.decode import first_depth
from permeation.meaning.intervene import CONTROLS, KINDS, OUTCOMES, half_depth, rank_agreement
from permeation.meaning.seeds import named_generator


@dataclass(frozen=True)
class WordUse:
    """What shifting one word's stream did.

    Attributes:
        clean_auc: how well T tells the untouched prompts' senses apart at the word.
        response: R of each kind at each layer, by outcome.
    """

    clean_auc: float
    response: Float[np.ndarray, "layers kinds outcomes"]


@dataclass(frozen=True)
class Uses:
    """The interventions on every word.

    Attributes:
        layers: at which the stream was shifted. last: L.
        words: those that have pairs. least_auc: with which clean AUC a word counts.
        auc, g: of each word at every layer 0 to L, for the comparison; g of graded words only.
    """

    layers: Sequence[int]
    last: int
    words: Mapping[str, WordUse]
    least_auc: float
    auc: Mapping[str, Float[np.ndarray, "all_layers"]]
    g: Mapping[str, Float[np.ndarray, "all_layers"]]

    @property
    def measurable(self) -> list[str]:
        """The words whose senses the untouched next-token distributions tell apart."""
        return [word for word, use in self.words.items() if use.clean_auc >= self.least_auc]

    def response(self, kind: str, outcome: str) -> Float[np.ndarray, "words layers"]:
        """R of the measurable words."""
        return np.array(
            [self.words[word].response[:, KINDS.index(kind), OUTCOMES.index(outcome)] for word in self.measurable]
        ).reshape(-1, len(self.layers))

    def half_depths(self, kind: str) -> dict[str, float | None]:
        """R½ of the measurable words: the first depth at which R of the next token reaches ½."""
        curves = zip(self.measurable, self.response(kind, "next_token"), strict=True)
        return {word: half_depth(self.layers, curve, self.last) for word, curve in curves}

    def summary(self, decoded_at: float, resamples: int, seed: int) -> dict[str, Any]:
        """The headline figures; without measurable words their number and names only.

        half_depth: the median R½ over words, for one direction with the middle 95 % of resampled words, beside the
        median depths of decoding and of g = ½. A word that never reaches ½ counts as beyond the last layer; where the
        median lies there it is null. response: mean R of one direction, at five layers spread over those measured.
        control_max: the largest |mean R| of a control. tau: Kendall's τ of R½ with these two depths. decoded_at: the
        AUC at which a sense counts as decoded.
        """
        if not (words := self.measurable):
            return {"words": 0, "unmeasurable_words": list(self.words)}
        half = self.half_depths("one_direction")
        auc = {word: first_depth(self.auc[word], decoded_at) for word in words}
        g = {word: half_depth(range(self.last + 1), self.g[word], self.last) for word in words if word in self.g}
        weights = resample_words(len(words), resamples, named_generator(seed, "intervene words"))
        depths = np.array([np.inf if depth is None else depth for depth in half.values()])
        drawn = np.array([np.median(np.repeat(depths, row)) for row in weights])
        low, high = (_finite(float(np.quantile(drawn, q, method="nearest"))) for q in (0.025, 0.975))
        mean = self.response("one_direction", "next_token").mean(axis=0)
        chosen = sorted({round(i) for i in np.linspace(0, len(self.layers) - 1, 5)})
        controls = [self.response(kind, "next_token").mean(axis=0) for kind in CONTROLS]
        return {
            "words": len(words),
            "unmeasurable_words": [word for word in self.words if word not in words],
            "half_depth": {
                "one_direction": _finite(float(np.median(depths))),
                "one_direction_low": low,
                "one_direction_high": high,
                "transplant": _median(self.half_depths("transplant")),
                "decoded": _median(auc),
                "g": _median(g),
            },
            "response": {str(self.layers[i]): float(mean[i]) for i in chosen},
            "control_max": float(np.abs(controls).max()),
            "tau": {"decoded": rank_agreement(half, auc), "g": rank_agreement(half, g)},
        }

    def rows(self) -> list[dict[str, Any]]:
        """R per outcome, kind, measurable word (and their mean, null without any) and layer: plots/intervene.json."""
        rows: list[dict[str, Any]] = []
        for outcome in OUTCOMES:
            for kind in KINDS:
                curves: dict[str, Any] = dict(zip(self.measurable, self.response(kind, outcome), strict=True))
                mean = np.mean(list(curves.values()), axis=0) if curves else [None] * len(self.layers)
                for word, curve in {**curves, "mean": mean}.items():
                    rows += [row | {"word": word} for row in self._curve(outcome, kind, self.layers, curve)]
        return rows

    def depth_rows(self) -> list[dict[str, Any]]:
        """AUC, g and, of measurable words, R of one direction on one axis, for plots/depths.json."""
        used = dict(zip(self.measurable, self.response("one_direction", "next_token"), strict=True))
        every, rows = range(self.last + 1), []
        for word in (each for each in self.words if each in self.g):
            rows += self._curve(word, "auc", every, self.auc[word])
            rows += self._curve(word, "response", self.layers, used[word]) if word in used else []
            rows += self._curve(word, "g", every, self.g[word])
        return rows

    def _curve(self, panel: str, series: str, layers: Sequence[int], values: Any) -> list[dict[str, Any]]:
        """A row a layer, as the charts of several panels have them."""
        return [
            {"panel": panel, "series": series, "depth": layer / self.last, "value": value, "low": None, "high": None}
            for layer, value in zip(layers, values, strict=True)
        ]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _median(depths: Mapping[str, float | None]) -> float | None:
    """The median, where None lies beyond all depths; None where the median lies there, and of no words."""
    known = [np.inf if depth is None else depth for depth in depths.values()]
    return _finite(float(np.median(known))) if known else None

"""Which heads bring the sense: the words' roles put together, tested, and set beside the weight axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from permeation.heads.beside import Beside, between_clusters, rank_beside
from permeation.heads.chance import Chance, agreement, family_wise_p
from permeation.heads.measure_roles import WordRoles
from permeation.heads.roles import CONTROLS, KINDS
from permeation.meaning.bootstrap import resample_words
from permeation.meaning.seeds import named_generator

SERIES = ("exchange", "mean", "direct", *CONTROLS)
ROLES = ("exchange", "direct")  # those that are set beside the weight axis, by their size
LEVEL = 0.05  # of the family-wise p from which on a head is said to bring the sense
TOP = 10


@dataclass(frozen=True)
class FoundHeads:
    """What every head does, over words.

    Attributes:
        words: those whose senses the next token tells apart. unmeasurable: the others.
        maps: by series, the mean over all words' pairs. p: the family-wise p-value of it.
    """

    words: Mapping[str, WordRoles]
    unmeasurable: list[str]
    maps: Mapping[str, Float[np.ndarray, "layers heads"]]
    p: Mapping[str, Float[np.ndarray, "layers heads"]]

    @classmethod
    def of(cls, words: Mapping[str, WordRoles], unmeasurable: list[str], draws: int, seed: int) -> FoundHeads:
        """Pool the words' pairs and test every head, each series as a family of its own."""
        maps, p = {}, {}
        for series in SERIES:
            values = np.concatenate([_values(each, series) for each in words.values()])
            maps[series] = values.mean(axis=0)
            rng = named_generator(seed, f"heads signs {series}")
            p[series] = family_wise_p(values.reshape(len(values), -1), draws, rng).reshape(maps[series].shape)
        return cls(words, unmeasurable, maps, p)

    def significant(self, series: str) -> int:
        """How many heads have a family-wise p below 0.05."""
        return int((self.p[series] < LEVEL).sum())

    def summary(self, draws: int, resamples: int, seed: int) -> dict[str, Any]:
        """The figures of the roles alone.

        heads: how many are significant, by series. strongest: of those the head whose exchange does most, with the
        middle 95 % of resampled words (it was chosen by that figure, which flatters it); None without any. top: the
        same for the ten heads of all whose exchange does most, added up. half: the fewest heads that make half of
        Σ |exchange|. control_max: the largest of all heads' |mean| of each control. agreement: of the words' maps of
        exchange, against heads shuffled within layers.
        """
        exchange = self.maps["exchange"]
        order = np.argsort(-exchange.ravel())
        of_words = np.stack([_values(each, "exchange").mean(axis=0).ravel() for each in self.words.values()])
        # A word counts in a resample as in `maps`: with each of its pairs.
        pairs = [each.causal.shape[1] for each in self.words.values()]
        weights = resample_words(len(of_words), resamples, named_generator(seed, "heads words")) * pairs
        drawn = weights / weights.sum(axis=1, keepdims=True) @ of_words
        sizes = np.sort(np.abs(exchange).ravel())[::-1].cumsum()
        agree = agreement(
            of_words.reshape(len(of_words), *exchange.shape), draws, named_generator(seed, "heads agreement")
        )
        return {
            "words": len(self.words),
            "unmeasurable_words": self.unmeasurable,
            "pairs": sum(each.causal.shape[1] for each in self.words.values()),
            "n_heads": exchange.size,
            "heads": {series: self.significant(series) for series in SERIES},
            "strongest": self._strongest(order, drawn),
            "top": _interval("share", float(exchange.ravel()[order[:TOP]].sum()), drawn[:, order[:TOP]].sum(axis=1)),
            "half": int(np.searchsorted(sizes, sizes[-1] / 2)) + 1,
            "control_max": {kind: float(np.abs(self.maps[kind]).max()) for kind in CONTROLS},
            "agreement": None if agree is None else chance_summary(agree),
        }

    def _strongest(self, order: Int[np.ndarray, "n"], drawn: Float[np.ndarray, "resamples n"]) -> dict[str, Any] | None:
        exchange, p = self.maps["exchange"], self.p["exchange"].ravel()
        first = next((int(i) for i in order if p[i] < LEVEL), None)
        if first is None:
            return None
        layer, head = divmod(first, exchange.shape[1])
        share = _interval("share", float(exchange[layer, head]), drawn[:, first])
        return {"head": f"{layer}.{head}", "p": float(p[first])} | share

    @property
    def attention(self) -> Float[np.ndarray, "layers heads"]:
        """The share of the attention at the word on the tokens that decide, mean over words."""
        return np.mean([each.attention for each in self.words.values()], axis=0)

    def beside(
        self,
        properties: Mapping[str, Float[np.ndarray, "layers heads"]],
        clusters: Int[np.ndarray, "n"],
        resamples: int,
        draws: int,
        seed: int,
    ) -> dict[str, Any]:
        """By role and property the rank correlation of |role| with it; clusters: η² of |role|'s ranks."""
        found: dict[str, Any] = {}
        for role in ROLES:
            size = np.abs(self.maps[role])
            found[role] = {
                name: beside_summary(
                    rank_beside(size, values, resamples, draws, named_generator(seed, f"heads {role} {name}"))
                )
                for name, values in properties.items()
            }
            rng = named_generator(seed, f"heads {role} clusters")
            found[role]["cluster"] = chance_summary(between_clusters(size.ravel(), clusters, draws, rng))
        return found

    def rows(self) -> list[dict[str, Any]]:
        """A row for each series and head, for plots/head_roles.json."""
        return [
            {"series": series, "layer": layer, "head": head, "share": float(share), "p": float(self.p[series][at])}
            for series in SERIES
            for at, share in np.ndenumerate(self.maps[series])
            for layer, head in (at,)
        ]


def _values(word: WordRoles, series: str) -> Float[np.ndarray, "pairs layers heads"]:
    return word.direct if series == "direct" else word.causal[KINDS.index(series)]


def _interval(name: str, value: float, drawn: Float[np.ndarray, "resamples"]) -> dict[str, float]:
    low, high = (float(each) for each in np.quantile(drawn, (0.025, 0.975)))
    return {name: value, "low": low, "high": high}


def chance_summary(chance: Chance) -> dict[str, float]:
    """A figure beside what shuffles give, as the metrics have it: with two decimals, which its interval is worth."""
    figures = {name: getattr(chance, name) for name in ("value", "null", "null_low", "null_high")}
    return {name: round(value, 2) + 0.0 for name, value in figures.items()} | {"p": chance.p}  # −0 is 0


def beside_summary(beside: Beside) -> dict[str, Any]:
    """ρ with its interval and the shuffles', then the same within layers."""
    interval = {"low": round(beside.low, 2) + 0.0, "high": round(beside.high, 2) + 0.0}
    within = None if beside.within is None else chance_summary(beside.within)
    return chance_summary(beside.shuffled) | interval | {"within_layers": within}

"""Which heads bring the sense: the words' roles put together, tested, and set beside the weight axis.

Chance is signs of pairs flipped for all heads at once, or heads shuffled within their layers (docs/heads.md, Chance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from permeation.frame.seeds import named_generator
from permeation.heads.roles import CONTROLS, KINDS, WordRoles
from permeation.meaning.bootstrap import interval, permutation_p, resample_words
from permeation.weights.pca import KernelPca

SERIES = ("exchange", "direct", *CONTROLS)
ROLES = ("exchange", "direct")  # those that are set beside the weight axis, by their size
LEVEL = 0.05  # below this family-wise p a head is said to bring the sense
TOP = 10
AT_ONCE = 200  # shuffles that stand in memory together


@dataclass(frozen=True)
class FoundHeads:
    """What every head does, over words.

    Attributes:
        words: those whose senses the next token tells apart. unmeasurable: the others.
        maps: by series, the mean over all words' pairs. p: its family-wise p-value.
        resamples: of words or heads, for intervals. draws: of signs or shuffles, for p-values. seed: of both.
    """

    words: Mapping[str, WordRoles]
    unmeasurable: list[str]
    maps: Mapping[str, Float[np.ndarray, "layers heads"]]
    p: Mapping[str, Float[np.ndarray, "layers heads"]]
    resamples: int
    draws: int
    seed: int

    @classmethod
    def of(cls, measured: Mapping[str, WordRoles | None], resamples: int, draws: int, seed: int) -> FoundHeads:
        """Pool the words' pairs and test every head, each series as a family of its own."""
        words = {word: roles for word, roles in measured.items() if roles is not None}
        maps, p = {}, {}
        for series in SERIES:
            values = np.concatenate([_values(each, series) for each in words.values()])
            maps[series] = values.mean(axis=0)
            rng = named_generator(seed, f"heads signs {series}")
            p[series] = family_wise_p(values.reshape(len(values), -1), draws, rng).reshape(maps[series].shape)
        return cls(words, [word for word in measured if word not in words], maps, p, resamples, draws, seed)

    def summary(self) -> dict[str, Any]:
        """The figures of the roles alone (docs/heads.md, Causal and Chance).

        heads: how many are significant, by series. Intervals are the middle 95 % of resampled words. half: the fewest
        heads that make half of Σ |exchange|. agreement: `agreement` and `reliability` of the words' maps of exchange;
        None for a single word.
        """
        exchange = self.maps["exchange"].ravel()
        top = np.argsort(-exchange)[:TOP]
        values = [_values(each, "exchange") for each in self.words.values()]
        pairs = [len(each) for each in values]
        of_words = np.stack([each.mean(axis=0) for each in values])
        by_word = of_words.reshape(len(pairs), -1)
        # A word counts in a resample as in `maps`: with each of its pairs.
        weights = resample_words(len(pairs), self.resamples, named_generator(self.seed, "heads words")) * pairs
        drawn = weights / weights.sum(axis=1, keepdims=True) @ by_word
        sizes = np.sort(np.abs(exchange))[::-1].cumsum()
        alike = None
        if len(pairs) > 1:
            halves = np.stack([[each[start::2].mean(axis=0) for each in values] for start in range(2)])
            alike = agreement(of_words, self.draws, named_generator(self.seed, "heads agreement")) | reliability(halves)
        layer, head = np.unravel_index(top[0], of_words.shape[1:])
        largest = {"head": f"{layer}.{head}", "p": float(self.p["exchange"][layer, head])}
        largest |= _share(exchange[top[0]], drawn[:, top[0]])
        return {
            "words": len(self.words),
            "unmeasurable_words": self.unmeasurable,
            "pairs": sum(pairs),
            "n_heads": exchange.size,
            "heads": {series: int((self.p[series] < LEVEL).sum()) for series in SERIES},
            "largest": largest | {"words": dict(zip(self.words, by_word[:, top[0]].tolist(), strict=True))},
            "top": _share(exchange[top].sum(), drawn[:, top].sum(axis=1)),
            "top_controls": {kind: float(np.sort(self.maps[kind].ravel())[-TOP:].sum()) for kind in CONTROLS},
            "half": int(np.searchsorted(sizes, sizes[-1] / 2)) + 1,
            "agreement": alike,
        }

    def beside(self, pca: Mapping[str, KernelPca]) -> dict[str, Any]:
        """By role and property the rank correlation of |role| with it; pca: by form."""
        shape = self.maps["exchange"].shape
        properties = {f"low_variance_{form}": low_variance_shares(of).reshape(shape) for form, of in pca.items()}
        looks = [each.attention for each in self.words.values()]
        properties |= {name: np.mean([each[name] for each in looks], axis=0) for name in looks[0]}
        rng = partial(named_generator, self.seed)
        found: dict[str, Any] = {}
        for role in ROLES:
            size = np.abs(self.maps[role])
            found[role] = {
                name: rank_beside(size, values, self.resamples, self.draws, rng(f"heads {role} {name}"))
                for name, values in properties.items()
            }
        return found

    def rows(self) -> list[dict[str, Any]]:
        """A row for each series and head, for plots/head_roles.json."""
        return [
            {"series": series, "layer": layer, "head": head, "share": float(share), "p": float(p[layer, head])}
            for series, p in self.p.items()
            for (layer, head), share in np.ndenumerate(self.maps[series])
        ]


def low_variance_shares(pca: KernelPca, explained: float = 0.9) -> Float[np.ndarray, "n"]:
    """How much of each head's ‖M_i‖² lies outside the top components, which explain `explained` of all variance."""
    squares = np.square(pca.coefficients.double().numpy())
    return squares[:, pca.components_for(explained) :].sum(axis=1) / squares.sum(axis=1)


def _values(word: WordRoles, series: str) -> Float[np.ndarray, "pairs layers heads"]:
    return word.direct if series == "direct" else word.causal[KINDS.index(series)]


def _share(share: float, drawn: Float[np.ndarray, "resamples"]) -> dict[str, float]:
    low, high = interval(drawn)
    return {"share": float(share), "low": float(low), "high": float(high)}


def beside_chance(value: float, drawn: Float[np.ndarray, "draws"], rising: bool = False) -> dict[str, float]:
    """A figure beside what shuffles give: their mean, middle 95 %, and p; two decimals are what it is worth.

    p = (1 + shuffles at least as far from 0) / (1 + shuffles); `rising` figures: at least as large.
    """
    size, others = (value, drawn) if rising else (abs(value), np.abs(drawn))
    figures = map(_rounded, (value, drawn.mean(), *interval(drawn)))
    p = permutation_p(size - 1e-12, others)  # a difference in the last bits is none
    return dict(zip(("value", "null", "null_low", "null_high"), figures, strict=True)) | {"p": p}


def family_wise_p(
    values: Float[np.ndarray, "pairs heads"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "heads"]:
    """The p-value of each head, corrected for having looked at all of them (max-|t|; Westfall and Young, 1993).

    Where a head carries no sense, exchanging its z between the twins of a pair turns the sign of the pair's value. Each
    draw takes the same signs for all heads (docs/heads.md, Chance).
    p = (1 + draws whose largest |t| over heads is at least the head's) / (1 + draws).
    """
    signs = rng.choice([-1.0, 1.0], size=(draws, len(values)))
    squares = np.square(values).sum(axis=0)
    largest = np.sort(np.abs(_t(signs @ values / len(values), squares, len(values))).max(axis=1))
    own = np.abs(_t(values.mean(axis=0)[None], squares, len(values))[0])
    return (1 + draws - np.searchsorted(largest, own * (1 - 1e-12))) / (1 + draws)


def _t(
    means: Float[np.ndarray, "draws heads"], squares: Float[np.ndarray, "heads"], n: int
) -> Float[np.ndarray, "draws heads"]:
    """Mean over its standard error over n pairs; 0 where a head's values are all 0."""
    # Flips of sign leave the sum of squares as it is. Values that are all alike have t = √n · mean / rounding.
    error = np.sqrt(np.maximum(squares / n - np.square(means), 1e-12 * squares / n) / (n - 1))
    return np.divide(means, error, out=np.zeros_like(means), where=error > 0)


def agreement(maps: Float[np.ndarray, "words layers heads"], draws: int, rng: np.random.Generator) -> dict[str, float]:
    """The mean rank correlation of two words' maps of the heads, against maps shuffled within their layers.

    That depth matters is in the shuffles, too.
    """
    words, layers, heads = maps.shape
    ranks = np.stack([standard_ranks(each) for each in maps.reshape(words, -1)])
    pairs = list(combinations(range(words), 2))
    drawn = []
    for start in range(0, draws, AT_ONCE):
        count = min(AT_ONCE, draws - start)
        shuffled = [each[shuffles_within_layers(layers, heads, count, rng)] for each in ranks]  # of each word by itself
        drawn.append(np.mean([(shuffled[i] * shuffled[j]).sum(axis=1) for i, j in pairs], axis=0))
    value = float(np.mean([ranks[i] @ ranks[j] for i, j in pairs]))
    return beside_chance(value, np.concatenate(drawn), rising=True)


def reliability(halves: Float[np.ndarray, "2 words layers heads"]) -> dict[str, float]:
    """How well half of a word's pairs repeat the map of the other half, beside half of another word's.

    reliability: mean rank correlation of a word's two maps. between_halves: of one word's map of the first half with
    another's of the second: the agreement of two words from as few pairs.
    """
    odd, even = (np.stack([standard_ranks(each.ravel()) for each in half]) for half in halves)
    rho = odd @ even.T
    own = np.eye(len(rho), dtype=bool)
    return {"reliability": _rounded(rho[own].mean()), "between_halves": _rounded(rho[~own].mean())}


def rank_beside(
    role: Float[np.ndarray, "layers heads"],
    property_: Float[np.ndarray, "layers heads"],
    resamples: int,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Spearman's ρ over heads of a role with a property, beside shuffled heads; where one of them is constant 0.

    low, high: the middle 95 % over resampled heads. within_layers: the mean over layers of ρ within a layer, which
    depth cannot make, beside shuffles within layers.
    """
    layers, heads = role.shape
    x, y = role.ravel(), property_.ravel()
    of_x, of_y = standard_ranks(x), standard_ranks(y)
    shuffled = np.array([of_x @ rng.permutation(of_y) for _ in range(draws)])
    chosen = rng.integers(x.size, size=(resamples, x.size))
    low, high = interval(np.array([standard_ranks(x[some]) @ standard_ranks(y[some]) for some in chosen]))
    a, b = (np.stack([standard_ranks(each) for each in values]).ravel() for values in (role, property_))
    orders = shuffles_within_layers(layers, heads, draws, rng)
    within = beside_chance(float(a @ b) / layers, (a * b[orders]).sum(axis=1) / layers)
    ends = {"low": _rounded(low), "high": _rounded(high)}
    return beside_chance(float(of_x @ of_y), shuffled) | ends | {"within_layers": within}


def shuffles_within_layers(layers: int, heads: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draws n"]:
    """Orders of all heads in which each stays in its layer."""
    within = rng.permuted(np.tile(np.arange(heads), (draws, layers, 1)), axis=2)
    return (within + heads * np.arange(layers)[:, None]).reshape(draws, layers * heads)


def standard_ranks(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Ranks less their mean, over their norm: two such give Spearman's ρ as their product; 0 where all are alike."""
    centred = stats.rankdata(values) - (len(values) + 1) / 2
    norm = np.linalg.norm(centred)
    return centred / norm if norm > 0 else centred


def _rounded(figure: Any) -> float:
    return round(float(figure), 2) + 0.0  # −0 is 0

"""What chance gives: sign flips of pairs over all heads, shuffles of heads within their layers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

AT_ONCE = 200  # shuffles that stand in memory together


@dataclass(frozen=True)
class Chance:
    """A figure beside what shuffles give.

    Attributes:
        value: the figure. null: the shuffles' mean. null_low, null_high: their middle 95 %.
        p: (1 + shuffles at least as far from 0) / (1 + shuffles); `rising` figures: at least as large.
    """

    value: float
    null: float
    null_low: float
    null_high: float
    p: float

    @classmethod
    def of(cls, value: float, drawn: Float[np.ndarray, "draws"], rising: bool = False) -> Chance:
        """The figure beside its draws; a difference in the last bits is none."""
        size, others = (value, drawn) if rising else (abs(value), np.abs(drawn))
        low, high = (float(each) for each in np.quantile(drawn, (0.025, 0.975)))
        reached = int((others >= size - 1e-12).sum())
        return cls(value, float(drawn.mean()), low, high, (1 + reached) / (1 + len(drawn)))


def t_values(values: Float[np.ndarray, "pairs heads"]) -> Float[np.ndarray, "heads"]:
    """Mean over its standard error over pairs, of each head; 0 where a head's values are all 0."""
    return _t(values.mean(axis=0)[None], np.square(values).sum(axis=0), len(values))[0]


def family_wise_p(
    values: Float[np.ndarray, "pairs heads"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "heads"]:
    """The p-value of each head, corrected for having looked at all of them (max-|t|; Westfall and Young, 1993).

    A head that carries no sense has its z exchanged between the twins of a pair as well as not, which turns the sign of
    the pair's value; the same signs for all heads (docs/heads.md, Chance).
    p = (1 + draws whose largest |t| over heads is at least the head's) / (1 + draws).
    """
    signs = rng.choice([-1.0, 1.0], size=(draws, len(values)))
    squares = np.square(values).sum(axis=0)
    largest = np.sort(np.abs(_t(signs @ values / len(values), squares, len(values))).max(axis=1))
    reached = draws - np.searchsorted(largest, np.abs(t_values(values)) * (1 - 1e-12))
    return (1 + reached) / (1 + draws)


def _t(
    means: Float[np.ndarray, "draws heads"], squares: Float[np.ndarray, "heads"], n: int
) -> Float[np.ndarray, "draws heads"]:
    # Flips of sign leave the sum of squares as it is. Values that are all alike have t = √n · mean / rounding.
    error = np.sqrt(np.maximum(squares / n - np.square(means), 1e-12 * squares / n) / (n - 1))
    return np.divide(means, error, out=np.zeros_like(means), where=error > 0)


def shuffles_within_layers(layers: int, heads: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draws n"]:
    """Orders of all heads in which each stays in its layer."""
    within = rng.permuted(np.tile(np.arange(heads), (draws, layers, 1)), axis=2)
    return (within + heads * np.arange(layers)[:, None]).reshape(draws, layers * heads)


def agreement(maps: Float[np.ndarray, "words layers heads"], draws: int, rng: np.random.Generator) -> Chance | None:
    """The mean rank correlation of two words' maps of the heads, against maps shuffled within their layers.

    That depth matters is in the shuffles, too. None for a single word.
    """
    words, layers, heads = maps.shape
    if words < 2:
        return None
    ranks = np.stack([standard_ranks(each) for each in maps.reshape(words, -1)])
    pairs = list(combinations(range(words), 2))
    drawn = []
    for start in range(0, draws, AT_ONCE):
        count = min(AT_ONCE, draws - start)
        shuffled = [each[shuffles_within_layers(layers, heads, count, rng)] for each in ranks]  # of each word by itself
        drawn.append(np.mean([(shuffled[i] * shuffled[j]).sum(axis=1) for i, j in pairs], axis=0))
    value = float(np.mean([ranks[i] @ ranks[j] for i, j in pairs]))
    return Chance.of(value, np.concatenate(drawn), rising=True)


def standard_ranks(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Ranks less their mean, over their norm: two such give Spearman's ρ as their product; 0 where all are alike."""
    centred = stats.rankdata(values) - (len(values) + 1) / 2
    norm = np.linalg.norm(centred)
    return centred / norm if norm > 0 else centred

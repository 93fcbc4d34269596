"""When the model uses a sense: shift the residual stream at the word, and see what the model then expects to follow.

docs/meaning.md, Interventions, has the definitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from permeation.meaning.decode import wins
from permeation.meaning.seeds import named_generator
from permeation.meaning.sigma import unit

# What is done to the stream; the last two are the controls of the first.
KINDS = ("one_direction", "transplant", "erasure", "within_senses", "random")
CONTROLS = ("within_senses", "random")
# What follows is measured at the word, one token later, and in the word's own last stream.
OUTCOMES = ("next_token", "one_later", "sigma")
FLOOR = 1e-6  # λ: the probability below which a token's ratio between senses says nothing


@dataclass(frozen=True)
class MatchedPairs:
    """One word's direction prompts A_i and B_i, n each, and what the *other* pairs say about each pair.

    Attributes:
        word: its name.
        stream: of A_1 … A_n, then of B_1 … B_n, at every layer.
        direction: ê_l for the i-th pair. middle: (mean_A + mean_B) / 2 for it.
    """

    word: str
    stream: Float[np.ndarray, "prompts layers d_model"]
    direction: Float[np.ndarray, "pairs layers d_model"]
    middle: Float[np.ndarray, "pairs layers d_model"]

    @classmethod
    def of(
        cls, word: str, a: Float[np.ndarray, "pairs layers d_model"], b: Float[np.ndarray, "pairs layers d_model"]
    ) -> MatchedPairs:
        """Directions and middles from at least three pairs."""
        a, b = a.astype(np.float64), b.astype(np.float64)
        means = [(each.sum(axis=0) - each) / (len(each) - 1) for each in (a, b)]
        return cls(word, np.concatenate([a, b]), unit(means[0] - means[1]), (means[0] + means[1]) / 2)

    @property
    def pairs(self) -> int:
        """n."""
        return len(self.direction)

    def shifts(self, layer: int, seed: int) -> Float[np.ndarray, "prompts kinds d_model"]:
        """What each kind adds to φ_dst at a layer, with φ_src the stream of the prompt's twin.

        one_direction: ⟨φ_src − φ_dst, ê⟩ ê. transplant: φ_src − φ_dst. erasure: −⟨φ_dst − middle, ê⟩ ê.
        within_senses and random: ⟨φ_src − φ_dst, ê⟩ along a unit vector at right angles to ê: the contrast of a random
        half of both senses' other prompts with the rest; or any direction. One of each is drawn for each pair.
        """
        twice = np.arange(2 * self.pairs) % self.pairs
        stream, direction = self.stream[:, layer], self.direction[twice, layer]
        to_twin = np.roll(stream, self.pairs, axis=0) - stream
        length = (to_twin * direction).sum(axis=-1, keepdims=True)
        from_middle = ((stream - self.middle[twice, layer]) * direction).sum(axis=-1, keepdims=True)
        across = [
            unit(each - (each * self.direction[:, layer]).sum(axis=-1, keepdims=True) * self.direction[:, layer])[twice]
            for each in (self._within_senses(layer, seed), self._random(layer, seed))
        ]
        along = (length * direction, to_twin, -from_middle * direction, *(length * each for each in across))
        return np.stack(along, axis=1)

    def _within_senses(self, layer: int, seed: int) -> Float[np.ndarray, "pairs d_model"]:
        """The same halves at every layer."""
        rng = named_generator(seed, f"intervene within_senses {self.word}")
        weights = np.zeros((self.pairs, 2 * self.pairs))
        for i in range(self.pairs):
            for sense in range(2):
                others = rng.permutation(np.delete(np.arange(self.pairs), i)) + sense * self.pairs
                half = len(others) // 2
                weights[i, others[:half]], weights[i, others[half:]] = 0.5 / half, -0.5 / (len(others) - half)
        return weights @ self.stream[:, layer]

    def _random(self, layer: int, seed: int) -> Float[np.ndarray, "pairs d_model"]:
        rng = named_generator(seed, f"intervene random {self.word} {layer}")
        return rng.standard_normal(self.direction[:, layer].shape)

    def sigma(
        self, stream: Float[np.ndarray, "prompts kinds d_model"], layer: int
    ) -> Float[np.ndarray, "prompts kinds"]:
        """cos of each prompt's stream with its pair's ê at `layer`."""
        twice = np.arange(2 * self.pairs) % self.pairs
        return np.einsum("pkd,pd->pk", unit(stream.astype(np.float64)), self.direction[twice, layer])


def leaning(
    probabilities: Float[Tensor, "prompts tokens d_vocab"],
) -> Float[Tensor, "pairs tokens d_vocab"]:
    """w(v) = log((p̄_A(v) + λ) / (p̄_B(v) + λ)) for the i-th pair, with p̄ the means over the other pairs' prompts.

    The first half of the prompts are A_1 … A_n, the second B_1 … B_n.
    """
    a, b = probabilities.unflatten(0, (2, -1))
    logs = [torch.log((each.sum(dim=0) - each) / (len(each) - 1) + FLOOR) for each in (a, b)]
    return logs[0] - logs[1]


def lean(
    probabilities: Float[Tensor, "prompts kinds tokens d_vocab"], weights: Float[Tensor, "prompts tokens d_vocab"]
) -> Float[Tensor, "prompts kinds tokens"]:
    """T(p) = Σ_v p(v) w(v): above 0 where what follows is what follows A, in nats."""
    return torch.einsum("pktv,ptv->pkt", probabilities, weights)


def clean_auc(clean: Float[np.ndarray, "prompts"]) -> float:
    """How well a figure of the clean prompts tells A (the first half) from B: the share of pairs in order."""
    a, b = np.split(clean, 2)
    return float(wins(a[:, None] - b).mean())


def response_to_shift(
    clean: Float[np.ndarray, "prompts"], shifted: Float[np.ndarray, "prompts kinds"]
) -> Float[np.ndarray, "kinds"]:
    """R = mean signed change / (mean over A − mean over B): 0 where nothing follows, 1 where all does.

    A prompt of A is pushed towards B, so its change counts with the sign turned. Erasing can give ½. Where the senses'
    means agree there is nothing to follow, and R is 0.
    """
    sign = np.repeat([-1.0, 1.0], len(clean) // 2)
    gap = -2 * (sign * clean).mean()
    change = (sign[:, None] * (shifted - clean[:, None])).mean(axis=0)
    return change / gap if gap else np.zeros_like(change)


def half_depth(
    layers: Sequence[int], response: Float[np.ndarray, "layers"], last: int, level: float = 0.5
) -> float | None:
    """The depth l / L of the first of the layers at which the response reaches the level; None where none does."""
    reached = np.flatnonzero(response >= level)
    return layers[reached[0]] / last if len(reached) else None


def rank_agreement(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> float | None:
    """Kendall's τ_b over the words for which both are known; None for fewer than two, or where all are the same."""
    pairs = [(first[word], second[word]) for word in first if first[word] is not None and second.get(word) is not None]
    if len(pairs) < 2:
        return None
    tau = float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
    return None if np.isnan(tau) else tau

"""When the model uses a sense: change the residual stream at the word, and see what it then expects to follow.

T(p) = Σ_v p(v) w(v), w(v) = log((p̄_A(v) + λ) / (p̄_B(v) + λ)): how far a next-token distribution p leans to what
follows A, in nats. R = (mean change of T towards the other sense) / (mean T over A − mean T over B): 0 where nothing
follows the change, 1 where all does. docs/meaning.md, Interventions, has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.seeds import named_generator
from permeation.meaning.decode import wins
from permeation.meaning.sigma import unit

# What is done to the stream; the last two are the controls of the first.
KINDS = ("one_direction", "transplant", "erasure", "within_senses", "random")
CONTROLS = ("within_senses", "random")
FLOOR = 1e-6  # λ: the probability below which a token's ratio between senses says nothing


def leaning(probabilities: Float[Tensor, "prompts d_vocab"]) -> Float[Tensor, "pairs d_vocab"]:
    """w for the i-th pair, with p̄ the means over the other pairs' prompts; prompts are A_1 … A_n, then B_1 … B_n."""
    a, b = probabilities.unflatten(0, (2, -1))
    logs = [torch.log((each.sum(dim=0) - each) / (len(each) - 1) + FLOOR) for each in (a, b)]
    return logs[0] - logs[1]


def lean(
    probabilities: Float[Tensor, "prompts kinds d_vocab"], weights: Float[Tensor, "prompts d_vocab"]
) -> Float[Tensor, "prompts kinds"]:
    """T."""
    return torch.einsum("pkv,pv->pk", probabilities, weights)


def response_to_shift(
    clean: Float[np.ndarray, "prompts"], shifted: Float[np.ndarray, "prompts kinds"]
) -> Float[np.ndarray, "kinds"]:
    """R; an erasure can give ½, and where the senses' means agree there is nothing to follow, and R is 0.

    A prompt of A is pushed towards B, so its change counts with the sign turned.
    """
    a, b = np.split(clean, 2)
    of_a, of_b = np.split(shifted - clean[:, None], 2)
    change, gap = (of_b.mean(axis=0) - of_a.mean(axis=0)) / 2, a.mean(axis=0) - b.mean(axis=0)
    return np.divide(change, gap, out=np.zeros_like(change), where=gap != 0)


def clean_auc(clean: Float[np.ndarray, "prompts"]) -> float:
    """How well a figure of the clean prompts tells A (the first half) from B: the share of pairs in order."""
    a, b = np.split(clean, 2)
    return float(wins(a[:, None] - b).mean())


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

    def shifts(self, layer: int, seed: int) -> Float[np.ndarray, "prompts kinds d_model"]:
        """What each kind adds to φ_dst at a layer, with φ_src the stream of the prompt's twin.

        one_direction: ⟨φ_src − φ_dst, ê⟩ ê. transplant: φ_src − φ_dst. erasure: −⟨φ_dst − middle, ê⟩ ê.
        within_senses and random: ⟨φ_src − φ_dst, ê⟩ along a unit vector at right angles to ê: the contrast of a random
        half of both senses' other prompts with the rest; or any direction. One of each is drawn for each pair.
        """
        pairs = len(self.direction)
        twice = np.arange(2 * pairs) % pairs
        stream, direction = self.stream[:, layer], self.direction[twice, layer]
        to_twin = np.roll(stream, pairs, axis=0) - stream
        length = (to_twin * direction).sum(axis=-1, keepdims=True)
        from_middle = ((stream - self.middle[twice, layer]) * direction).sum(axis=-1, keepdims=True)
        other = named_generator(seed, f"intervene random {self.word} {layer}").standard_normal((pairs, stream.shape[1]))
        across = [each[twice] for each in (self._within_senses(seed) @ stream, other)]
        across = [unit(each - (each * direction).sum(axis=-1, keepdims=True) * direction) for each in across]
        along = (length * direction, to_twin, -from_middle * direction, *(length * each for each in across))
        return np.stack(along, axis=1)

    def _within_senses(self, seed: int) -> Float[np.ndarray, "pairs prompts"]:
        """For each pair the weights that contrast random halves of both senses' other prompts, at every layer."""
        rng = named_generator(seed, f"intervene within_senses {self.word}")
        pairs = len(self.direction)
        weights = np.zeros((pairs, 2 * pairs))
        for i, sense in np.ndindex(pairs, 2):
            others = rng.permutation(np.delete(np.arange(pairs), i)) + sense * pairs
            half = len(others) // 2
            weights[i, others[:half]], weights[i, others[half:]] = 0.5 / half, -0.5 / (len(others) - half)
        return weights

"""Whether a prompt's sense can be read off along a direction that other prompts gave: AUC per layer.

AUC = share of pairs (a prompt of A, a prompt of B) in which that of A has the larger cosine with the direction. Each
pair (a_i, b_j) of direction prompts is scored along mean_A − mean_B over the prompts at other places of the two lists
than i and j: the twin of a prompt, matched in all but the sense, would pull its score to the other sense. Without
senses the two of a pair are exchangeable, so the expected AUC is exactly ½ (Airola et al., 2011).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from permeation.frame.errors import PermeationError
from permeation.frame.seeds import named_generator
from permeation.meaning.activations import Activations, direction_pairs, repeats
from permeation.meaning.bootstrap import exchanges, interval, permutation_p, resample_words, with_interval
from permeation.meaning.rows import by_layer
from permeation.meaning.sigma import contrast, unit
from permeation.meaning.words import SENSES, select

# Which prompts are decoded: the direction prompts, each pair along the contrast of the others; or the gradient
# prompts, from weak contexts to strong, along the contrast of the direction prompts.
TESTS = ("direction", "gradient")
# Along the contrast of the layer itself, or along that of sigma.direction_layer at every layer.
DIRECTIONS = ("own", "final")
AT_ONCE = 16  # exchanges of senses, whose tables of pairs stand in memory together


@dataclass(frozen=True)
class Decoding:
    """How well one word's senses are told apart, per layer.

    Attributes:
        differences: score of a prompt of A minus score of one of B, for every pair.
        permuted: the AUC with the senses of twins exchanged at random.
    """

    differences: Float[np.ndarray, "a b layers"]
    permuted: Float[np.ndarray, "permutations layers"]

    @property
    def auc(self) -> Float[np.ndarray, "layers"]:
        """The share of pairs in which the prompt of A scores higher; ties count half."""
        return wins(self.differences).mean(axis=(0, 1))

    def bootstrap(self, resamples: int, rng: np.random.Generator) -> Float[np.ndarray, "resamples layers"]:
        """The AUC of resampled prompts; directions stay, so an interval from these leaves out their uncertainty."""
        table = wins(self.differences)
        a, b = (rng.multinomial(n, np.full(n, 1 / n), resamples) / n for n in table.shape[:2])
        return np.einsum("ra,rb,abl->rl", a, b, table, optimize=True)


def wins(differences: Float[np.ndarray, "*pairs layers"]) -> Float[np.ndarray, "*pairs layers"]:
    """1 where a difference is above 0, 1/2 where it is 0 (to rounding), else 0."""
    return (1 + np.sign(np.where(np.abs(differences) < 1e-9, 0, differences))) / 2


def leave_pair_out(
    residual: Float[np.ndarray, "prompts layers d_model"],
    source: Float[np.ndarray, "prompts #layers d_model"],
    permutations: int,
    rng: np.random.Generator,
) -> Decoding:
    """Each pair scored along the contrast of the prompts at other places; prompts are A_1 … A_n, then B_1 … B_n.

    source: `residual` for the layer's own direction, or one layer's residuals for a direction that all layers share.
    Everything comes from one table per layer, G_xy = φ_x · ψ_y with φ the unit residual and ψ the source. The
    differences are divided by the norm of the contrast of all prompts.
    """
    n = len(residual) // 2
    gram = np.einsum("xld,yld->xyl", unit(residual.astype(np.float64)), source.astype(np.float64), optimize=True)
    norm = np.linalg.norm(
        source[:n].mean(axis=0, dtype=np.float64) - source[n:].mean(axis=0, dtype=np.float64), axis=-1
    )
    scale = np.where(norm > 1e-6 * np.linalg.norm(source, axis=-1).max(), norm, np.inf)
    others = ~np.eye(n, dtype=bool)[..., None]  # [i, j, layer]
    count = np.where(others, n - 2, n - 1)

    def differences(orders: Int[np.ndarray, "draws prompts"]) -> Float[np.ndarray, "draws a b layers"]:
        drawn = gram[orders[:, :, None], orders[:, None, :]]
        at_place = drawn[:, :, :n] - drawn[:, :, n:]  # φ_x · (ψ_A − ψ_B) of each place
        a, b = at_place[:, :n], at_place[:, n:]
        own_a, own_b = (np.einsum("diil->dil", each) for each in (a, b))
        score_a = (a.sum(axis=2) - own_a)[:, :, None] - others * a
        score_b = (b.sum(axis=2) - own_b)[:, None] - others * b.swapaxes(1, 2)
        return (score_a - score_b) / count / scale

    return _decoding(differences, n, n, permutations, rng)


def held_out(
    residual: Float[np.ndarray, "prompts layers d_model"],
    direction: Float[np.ndarray, "#layers d_model"],
    n_a: int,
    permutations: int,
    rng: np.random.Generator,
) -> Decoding:
    """Prompts scored by their cosine with a direction that none of them made; the first n_a are those of A."""
    score = np.einsum("pld,pld->pl", unit(residual.astype(np.float64)), np.broadcast_to(direction, residual.shape))

    def differences(orders: Int[np.ndarray, "draws prompts"]) -> Float[np.ndarray, "draws a b layers"]:
        drawn = score[orders]
        return drawn[:, :n_a, None] - drawn[:, None, n_a:]

    return _decoding(differences, n_a, len(residual) - n_a, permutations, rng)


def _decoding(differences: Any, n_a: int, n_b: int, permutations: int, rng: np.random.Generator) -> Decoding:
    """The pairs as they are, and the AUC with the prompts at one place of the lists exchanged or not, by a coin each.

    differences: gives the table of pairs for some orders of the prompts.
    """
    orders = exchanges(n_a, n_b, permutations, rng)
    parts = [orders[start : start + AT_ONCE] for start in range(0, permutations, AT_ONCE)]
    permuted = np.concatenate([wins(differences(part)).mean(axis=(1, 2)) for part in parts])
    (real,) = differences(np.arange(n_a + n_b)[None])
    return Decoding(real, permuted)


def first_depth(auc: Float[np.ndarray, "layers"], threshold: float) -> float | None:
    """The depth l/L at which the AUC first reaches the threshold; None where it never does."""
    reached = np.flatnonzero(auc >= threshold)
    return float(reached[0] / (len(auc) - 1)) if len(reached) else None


@dataclass(frozen=True)
class DecodedWords:
    """One test along one kind of direction.

    Attributes:
        words: each word's decoding. resampled: each word's AUC on resampled prompts.
        mean_resampled: their mean over resampled words.
    """

    words: Mapping[str, Decoding]
    resampled: Mapping[str, Float[np.ndarray, "resamples layers"]]
    mean_resampled: Float[np.ndarray, "resamples layers"]

    @property
    def mean(self) -> Float[np.ndarray, "layers"]:
        """The AUC, mean over words."""
        return np.mean([decoding.auc for decoding in self.words.values()], axis=0)

    @property
    def p(self) -> float:
        """Of the largest mean over the layers: the chance of one false alarm among all layers is held to the level."""
        permuted = np.mean([decoding.permuted for decoding in self.words.values()], axis=0)
        return permutation_p(self.mean.max(), permuted.max(axis=1))

    def rows(self, **names: str) -> list[dict[str, Any]]:
        """Per word, and for their mean, a row a layer, for plots/decoding.json; names: of test and direction."""
        curves = {word: (each.auc, *interval(self.resampled[word])) for word, each in self.words.items()}
        return [
            row
            for word, (auc, low, high) in (curves | {"mean": (self.mean, *interval(self.mean_resampled))}).items()
            for row in by_layer({**names, "word": word}, auc=auc, low=low, high=high)
        ]

    def summary(self, threshold: float) -> dict[str, float | None]:
        """auc: mean over words and layers 1 to L, with its interval. decoded_depth: where the words' mean first
        reaches the threshold.
        """
        auc = with_interval("auc", self.mean[1:].mean(), self.mean_resampled[:, 1:].mean(axis=1))
        return auc | {"decoded_depth": first_depth(self.mean, threshold)}


def decode_words(
    activations: Activations,
    layer: int,
    test: str,
    direction: str,
    permutations: int,
    resamples: int,
    seed: int,
    place: str = "at_word",
) -> DecodedWords:
    """Decode every word that has prompts for the test; prompts that serve twice are not tested.

    place: one of PLACES, or `context`, where all is read.
    Raises PermeationError where no word has prompts for it.
    """
    residuals = activations.at(place)
    at = slice(None) if direction == "own" else slice(layer, layer + 1)
    prompts, pairs = activations.prompts, direction_pairs(activations.prompts)
    found, resampled = {}, {}
    for word in activations.words:
        if test == "direction":  # as pairs: what leaves a prompt out leaves its twin out too
            tested = [[pair[sense] for pair in pairs.get(word, [])] for sense in range(2)]
        else:
            repeated = repeats(prompts)
            tested = [[i for i in select(prompts, word, test, sense) if not repeated[i]] for sense in SENSES]
        if not all(tested):
            continue
        residual = residuals[tested[0] + tested[1]]
        rng = named_generator(seed, f"decode {test} {direction} {word}")
        if test == "direction":
            found[word] = leave_pair_out(residual, residual[:, at], permutations, rng)
        else:
            senses = (residuals[select(prompts, word, "direction", sense)][:, at] for sense in SENSES)
            found[word] = held_out(residual, contrast(*senses), len(tested[0]), permutations, rng)
        resampled[word] = found[word].bootstrap(resamples, rng)
    if not found:
        raise PermeationError(f"no word of the words file has the {test} prompts that decoding is tested on")
    weights = resample_words(len(found), resamples, named_generator(seed, "decode words")) / len(found)
    mean = np.einsum("rw,wrl->rl", weights, np.stack(list(resampled.values())))
    return DecodedWords(found, resampled, mean)

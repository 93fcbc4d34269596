"""Every word's senses decoded: which prompts are tested along which direction, and what that gives over the words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json
from permeation.meaning.activations import Activations, direction_pairs, unrepeated
from permeation.meaning.bootstrap import interval, resample_words
from permeation.meaning.decode import Decoding, first_depth, held_out, leave_pair_out, p_values
from permeation.meaning.seeds import named_generator
from permeation.meaning.sigma import contrast
from permeation.meaning.words import SENSES, select

# Which prompts are decoded: the direction prompts, each pair along the contrast of the others; or the gradient
# prompts, from weak contexts to strong, along the contrast of the direction prompts.
TESTS = ("direction", "gradient")
# Along the contrast of the layer itself, or along that of sigma.direction_layer at every layer.
DIRECTIONS = ("own", "final")


@dataclass(frozen=True)
class DecodedWords:
    """One test along one kind of direction.

    Attributes:
        test, direction: of TESTS and of DIRECTIONS.
        words: each word's decoding.
        resampled: each word's AUC on resampled prompts.
        mean_resampled: their mean over resampled words.
    """

    test: str
    direction: str
    words: Mapping[str, Decoding]
    resampled: Mapping[str, Float[np.ndarray, "resamples layers"]]
    mean_resampled: Float[np.ndarray, "resamples layers"]

    @property
    def name(self) -> str:
        """Test and direction, as the metrics have them."""
        return f"{self.test}_{self.direction}"

    @property
    def mean(self) -> Float[np.ndarray, "layers"]:
        """The AUC, mean over words."""
        return np.mean([decoding.auc for decoding in self.words.values()], axis=0)

    @property
    def p(self) -> tuple[Float[np.ndarray, "layers"], Float[np.ndarray, "layers"]]:
        """The p-values of the mean: at the same layer, and at any."""
        return p_values(self.mean, np.mean([decoding.permuted for decoding in self.words.values()], axis=0))

    def rows(self) -> list[dict[str, Any]]:
        """Per word, and for their mean, a row a layer, for plots/decoding.json."""
        rows = []
        for word, decoding in self.words.items():
            ps = p_values(decoding.auc, decoding.permuted)
            rows += self._layer_rows(word, decoding.auc, decoding.d_prime, *ps, self.resampled[word])
        return [*rows, *self._layer_rows("mean", self.mean, [None] * len(self.mean), *self.p, self.mean_resampled)]

    def _layer_rows(
        self, word: str, auc: np.ndarray, d_prime: Iterable[float | None], p: np.ndarray, p_any: np.ndarray, drawn: Any
    ) -> list[dict[str, Any]]:
        columns = zip(np.linspace(0, 1, len(auc)), auc, *interval(drawn), d_prime, p, p_any, strict=True)
        return [
            {"test": self.test, "direction": self.direction, "word": word, "depth": x, "auc": y, "low": low}
            | {"high": high, "d_prime": prime, "p": at_layer, "p_any": anywhere}
            for x, y, low, high, prime, at_layer, anywhere in columns
        ]

    def summary(self, threshold: float) -> dict[str, Any]:
        """auc: mean over words and layers 1 to L, with its interval. decoded_depth: where the words' mean first
        reaches the threshold. decoded_words: how many words reach it anywhere.
        """
        low, high = interval(self.mean_resampled[:, 1:].mean(axis=1))
        return {
            "auc": float(self.mean[1:].mean()),
            "auc_low": float(low),
            "auc_high": float(high),
            "decoded_depth": first_depth(self.mean, threshold),
            "decoded_words": sum(first_depth(each.auc, threshold) is not None for each in self.words.values()),
        }


def decode_words(
    activations: Activations,
    layer: int,
    test: str,
    direction: str,
    permutations: int,
    resamples: int,
    seed: int,
    before: bool = False,
) -> DecodedWords:
    """Decode every word that has prompts for the test; prompts that serve twice are not tested.

    With `before` all is read at the token before the word.
    Raises PermeationError where no word has prompts for it.
    """
    residuals = activations.before if before else activations.at_word
    at = slice(None) if direction == "own" else slice(layer, layer + 1)
    prompts, pairs = activations.prompts, direction_pairs(activations.prompts)
    found, resampled = {}, {}
    for word in activations.words:
        if test == "direction":  # as pairs: what leaves a prompt out leaves its twin out too
            tested = [[pair[sense] for pair in pairs.get(word, [])] for sense in range(2)]
        else:
            tested = [unrepeated(prompts, word, test, sense) for sense in SENSES]
        if not all(tested):
            continue
        residual = residuals[tested[0] + tested[1]]
        is_a = np.arange(len(residual)) < len(tested[0])
        rng = named_generator(seed, f"decode {test} {direction} {word}")
        if test == "direction":
            found[word] = leave_pair_out(residual, residual[:, at], is_a, permutations, rng)
        else:
            senses = (residuals[select(prompts, word, "direction", sense)][:, at] for sense in SENSES)
            found[word] = held_out(residual, contrast(*senses), is_a, permutations, rng)
        resampled[word] = found[word].bootstrap(resamples, rng)
    if not found:
        raise PermeationError(f"no word of the words file has the {test} prompts that decoding is tested on")
    weights = resample_words(len(found), resamples, named_generator(seed, "decode words")) / len(found)
    mean = np.einsum("rw,wrl->rl", weights, np.stack(list(resampled.values())))
    return DecodedWords(test, direction, found, resampled, mean)


def write_decoding_p(folder: Path, decoded: Iterable[DecodedWords]) -> None:
    """Save, per test and direction, the p-value of the words' mean against the largest of all layers, as p.json.

    They are uncorrected; the stage `controls` corrects them together with its own.
    """
    write_json(folder / "p.json", {each.name: float(each.p[1].min()) for each in decoded})


def read_decoding_p(folder: Path) -> dict[str, float]:
    """What `write_decoding_p` saved."""
    return dict(read_json(folder / "p.json"))

"""What the model made of the prompts: the residual stream at the word and at the token before it, as it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from permeation.frame.tables import read_json, write_json
from permeation.meaning.words import SENSES, Prompt, select

MANY = 8  # direction prompts of a sense; of fewer a word's direction is shaky
LEAST = 3  # direction prompts of a sense: a pair left out must leave one of each


@dataclass(frozen=True)
class Activations:
    """The prompts and their residual stream.

    Attributes:
        prompts: in the order of the words file.
        at_word: after each layer, 0 (the embedding) to L, at the last token of the word that ends the prompt.
        before: the same at the token before the word.
    """

    prompts: tuple[Prompt, ...]
    at_word: Float[np.ndarray, "prompts layers d_model"]
    before: Float[np.ndarray, "prompts layers d_model"]

    def write(self, folder: Path) -> None:
        """Save as prompts.json, at_word.npy and before.npy."""
        write_json(folder / "prompts.json", [asdict(prompt) for prompt in self.prompts])
        np.save(folder / "at_word.npy", self.at_word)
        np.save(folder / "before.npy", self.before)

    @classmethod
    def read(cls, folder: Path) -> Activations:
        """What `write` saved; the arrays stay on disk until they are used."""
        prompts = tuple(Prompt(**entry) for entry in read_json(folder / "prompts.json"))
        at_word, before = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("at_word", "before"))
        return cls(prompts, at_word, before)

    @property
    def words(self) -> list[str]:
        """The words in the order of the file."""
        return list(dict.fromkeys(prompt.word for prompt in self.prompts))

    def of(self, word: str, role: str, *labels: str) -> Float[np.ndarray, "chosen layers d_model"]:
        """The residual stream at the word of its prompts of one role, label by label."""
        return self.at_word[select(self.prompts, word, role, *labels)]


def repeats(prompts: Sequence[Prompt]) -> Bool[np.ndarray, "prompts"]:
    """Which prompts repeat another one, in whatever role; of these a direction prompt is the one that stays."""
    order = sorted(range(len(prompts)), key=lambda i: prompts[i].role != "direction")
    seen: set[str] = set()
    repeated = np.zeros(len(prompts), dtype=bool)
    for i in order:
        repeated[i] = prompts[i].text in seen
        seen.add(prompts[i].text)
    return repeated


def unrepeated(prompts: Sequence[Prompt], word: str, role: str, sense: str) -> list[int]:
    """A word's prompts of one role and sense without `repeats`, for figures about prompts that made no direction."""
    repeated = repeats(prompts)
    return [i for i in select(prompts, word, role, sense) if not repeated[i]]


def direction_pairs(prompts: Sequence[Prompt]) -> dict[str, list[tuple[int, int]]]:
    """The direction prompts (A_i, B_i) that stand at one place of their lists, neither of them repeated, per word.

    Words with fewer than three pairs are left out: while one is tested, two have to give a contrast and a spread.
    """
    repeated = repeats(prompts)
    found = {}
    for word in dict.fromkeys(prompt.word for prompt in prompts):
        both = zip(*(select(prompts, word, "direction", sense) for sense in SENSES), strict=False)
        pairs = [(a, b) for a, b in both if not repeated[a] and not repeated[b]]
        if len(pairs) >= LEAST:
            found[word] = pairs
    return found


def weaknesses(prompts: Sequence[Prompt]) -> dict[str, int]:
    """Count what weakens a word list.

    few_direction_prompts: words with fewer than eight in a sense. without_gradient: words without a gradient in both
    senses, which have no g. repeated_prompts: prompts that serve elsewhere or earlier too.
    """
    words = list(dict.fromkeys(prompt.word for prompt in prompts))
    return {
        "few_direction_prompts": sum(
            min(len(select(prompts, word, "direction", sense)) for sense in SENSES) < MANY for word in words
        ),
        "without_gradient": len(words) - len(graded_words(prompts)),
        "repeated_prompts": int(repeats(prompts).sum()),
    }


def graded_words(prompts: Sequence[Prompt]) -> list[str]:
    """The words with gradient prompts of both senses and three or more in all: a slope and its error need so many."""
    words = dict.fromkeys(prompt.word for prompt in prompts)
    counts = {word: [len(select(prompts, word, "gradient", sense)) for sense in SENSES] for word in words}
    return [word for word, count in counts.items() if min(count) > 0 and sum(count) > 2]

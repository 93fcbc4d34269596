"""What the model made of the prompts: the residual stream at the word and beside it, as it is saved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from permeation.frame.tables import read_json, write_json
from permeation.meaning.words import SENSES, Prompt, select

MANY = 8  # direction prompts of a sense; of fewer a word's direction is shaky
LEAST = 3  # direction prompts of a sense: a pair left out must leave one of each
# Where each sentence is read: the word's last token, the token before the word, two tokens later, the last token. Words
# files, whose prompts end with the word, have the first two.
PLACES = ("at_word", "before", "later", "end")


@dataclass(frozen=True)
class Activations:
    """The prompts and their residual stream after each layer, 0 (the embedding) to L.

    Attributes:
        prompts: in the order of the words file.
        at_word: at the last token of the word. before: at the token before the word.
        later, end: of a table's sentences, two tokens later, and at the last token.
        context: the mean embedding of the tokens in front of the word, a baseline that has no order.
    """

    prompts: tuple[Prompt, ...]
    at_word: Float[np.ndarray, "prompts layers d_model"]
    before: Float[np.ndarray, "prompts layers d_model"]
    later: Float[np.ndarray, "prompts layers d_model"] | None = None
    end: Float[np.ndarray, "prompts layers d_model"] | None = None
    context: Float[np.ndarray, "prompts 1 features"] | None = None

    @classmethod
    def read(cls, folder: Path) -> Activations:
        """What `write_activations` saved; the arrays stay on disk until they are used."""
        prompts = tuple(Prompt(**entry) for entry in read_json(folder / "prompts.json"))
        return cls(prompts, **{path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")})

    @property
    def labelled(self) -> bool:
        """Whether the prompts are a table's sentences, and h is the label."""
        return self.prompts[0].start is not None

    def at(self, place: str) -> Float[np.ndarray, "prompts layers d_model"]:
        """The residual stream at one of PLACES."""
        return np.asarray(getattr(self, place))

    @property
    def words(self) -> list[str]:
        """The words in the order of the file."""
        return list(dict.fromkeys(prompt.word for prompt in self.prompts))

    def of(self, word: str, role: str, *labels: str) -> Float[np.ndarray, "chosen layers d_model"]:
        """The residual stream at the word of its prompts of one role, label by label."""
        return self.at_word[select(self.prompts, word, role, *labels)]


def write_activations(
    folder: Path,
    prompts: Sequence[Prompt],
    places: Sequence[str],
    shape: tuple[int, int],
    batches: Iterable[tuple[Sequence[int], Float[np.ndarray, "batch places layers d_model"]]],
    context: Float[np.ndarray, "prompts 1 d_model"],
) -> None:
    """Save the prompts and, batch by batch, their streams, layers by d_model, in <place>.npy."""
    write_json(folder / "prompts.json", [asdict(prompt) for prompt in prompts])
    size = (len(prompts), *shape)
    files = [np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, size) for name in places]
    for batch, streams in batches:
        for i, file in enumerate(files):
            file[batch] = streams[:, i]
    np.save(folder / "context.npy", context)


def repeats(prompts: Sequence[Prompt]) -> Bool[np.ndarray, "prompts"]:
    """Which prompts repeat another one of their word, in whatever role; a direction prompt is the one that stays."""
    order = sorted(range(len(prompts)), key=lambda i: prompts[i].role != "direction")
    first = {(prompts[i].word, prompts[i].text): i for i in reversed(order)}
    return np.array([first[prompt.word, prompt.text] != i for i, prompt in enumerate(prompts)])


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
    fewest = [min(len(select(prompts, word, "direction", sense)) for sense in SENSES) for word in words]
    return {
        "few_direction_prompts": sum(each < MANY for each in fewest),
        "without_gradient": len(words) - len(graded_words(prompts)),
        "repeated_prompts": int(repeats(prompts).sum()),
    }


def graded_words(prompts: Sequence[Prompt]) -> list[str]:
    """The words with gradient prompts of both senses and three or more in all: a slope and its error need so many."""
    words = dict.fromkeys(prompt.word for prompt in prompts)
    counts = {word: [len(select(prompts, word, "gradient", sense)) for sense in SENSES] for word in words}
    return [word for word, count in counts.items() if min(count) > 0 and sum(count) > 2]

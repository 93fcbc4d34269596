"""The ambiguous words and their prompts: data/words.yaml, or a file of one's own (docs/meaning.md, Prompts)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_yaml

Sense = Literal["A", "B"]
Role = Literal["direction", "condition", "gradient"]
SENSES: tuple[Sense, Sense] = ("A", "B")
CONDITIONS = ("strong_A", "weak_A", "neutral", "weak_B", "strong_B")
MEAN = "mean"  # the name of the mean over words in the tables
# Writings that put no blanks between words, as Unicode names their characters.
WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
# What a word's entry holds: the part, its lists, what they are for, and how many prompts each has at least.
PARTS: tuple[tuple[str, tuple[str, ...], Role, int], ...] = (
    ("direction", SENSES, "direction", 2),
    ("conditions", CONDITIONS, "condition", 1),
    ("gradient", SENSES, "gradient", 0),
)


@dataclass(frozen=True)
class Prompt:
    """A sentence that ends with the word it is about, or, in a table of sentences, has it anywhere.

    Attributes:
        word: the ambiguous word.
        text: the sentence.
        role: `direction` (makes ê), `condition` or `gradient` (are measured along it).
        label: the sense, A or B; for a condition its name, strong_A … strong_B.
        rank: position in its list, from 0; in a gradient from weak to strong.
        start: of a table's sentence, the character at which the word starts. same_pos: whether the word's two senses
            are of one part of speech, where the table says so.
    """

    word: str
    text: str
    role: Role
    label: str
    rank: int
    start: int | None = None
    same_pos: bool | None = None


@dataclass(frozen=True)
class Word:
    """An ambiguous word, the names of its two senses, and its prompts in the order of the file."""

    word: str
    senses: Mapping[Sense, str]
    prompts: tuple[Prompt, ...]


def read_words(path: Path | str) -> tuple[Word, ...]:
    """Read a words file, in Unicode's composed form (NFC).

    Raises PermeationError that names everything that is wrong with it, word by word and prompt by prompt.
    """
    faults: list[str] = []
    words = tuple(_word(word, entry, faults) for word, entry in read_yaml(Path(path)).items())
    names = [entry.word for entry in words]
    faults += [f"the word {name!r} stands twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if faults:
        raise PermeationError(f"{path}: " + "\n  ".join(faults))
    return words


def select(prompts: Sequence[Prompt], word: str, role: str, *labels: str) -> list[int]:
    """Where a word's prompts of one role stand, label by label, each in the order of its list."""
    return [i for label in labels for i, p in enumerate(prompts) if (p.word, p.role, p.label) == (word, role, label)]


def _word(word: Any, entry: Any, faults: list[str]) -> Word:
    """The word; what is wrong with it is added to `faults`."""
    if not isinstance(word, str) or word.split() != [word] or word == MEAN:
        faults.append(f"{word!r} is no word; accepted: one word without blanks, and not mean (quote yes, no, numbers)")
    word = unicodedata.normalize("NFC", str(word))
    parts = _mapping(word, entry, ("senses", *(part for part, *_ in PARTS)), faults, left_out="gradient")
    senses = _mapping(f"{word}.senses", parts.get("senses"), SENSES, faults) if "senses" in parts else {}
    unnamed = [sense for sense, name in senses.items() if not isinstance(name, str) or not name.strip()]
    faults += [f"{word}.senses.{sense} is {_said(senses[sense])}; accepted: the name of the sense" for sense in unnamed]
    prompts: list[Prompt] = []
    for part, labels, role, least in PARTS:
        lists = _mapping(f"{word}.{part}", parts[part], labels, faults) if part in parts else {}
        for label in (label for label in labels if label in lists):
            texts, where = lists[label], f"{word}.{part}.{label}"
            texts = [texts] if role == "condition" and isinstance(texts, str) else texts
            if not isinstance(texts, list) or len(texts) < least:
                faults.append(f"{where} is {_said(texts)}; accepted: a list of at least {least} prompts")
                continue
            for rank, text in enumerate(texts):
                text = unicodedata.normalize("NFC", text) if isinstance(text, str) else text
                if fault := _fault(word, text):
                    faults.append(f"{where}[{rank}]: {fault}")
                else:
                    prompts.append(Prompt(word, text, role, label, rank))
    return Word(word, {sense: str(name) for sense, name in senses.items()}, tuple(prompts))


def _mapping(where: str, value: Any, keys: tuple[str, ...], faults: list[str], left_out: str = "") -> Any:
    """The mapping, or an empty one in its place; a key that is missing or unknown is a fault."""
    found = value if isinstance(value, Mapping) else {}
    if not set(keys) - {left_out} <= set(found) <= set(keys):
        said = ", ".join(map(str, found)) or _said(value)
        free = f"; {left_out} may be left out" if left_out else ""
        faults.append(f"{where}: found {said}; accepted: {', '.join(keys)}, each with what belongs to it{free}")
    return found


def _fault(word: str, text: Any) -> str | None:
    """What is wrong with a prompt, if anything is."""
    if not isinstance(text, str) or not text.strip():
        return f"found {_said(text)}; accepted: a sentence that ends with {word!r}"
    front = text.removesuffix(word)
    joined = unicodedata.name(word[:1] or " ", "").startswith(WITHOUT_BLANKS)
    if front == text or not (joined or front != front.rstrip() or not front):
        return f"the prompt {text!r} does not end with the word {word!r}"
    if not front.strip():
        return f"the prompt {text!r} is the bare word, without any context"
    if text != " ".join(text.split()) or not text.replace("\u200c", "").replace("\u200d", "").isprintable():
        return f"the prompt {text!r} has a blank or a character that cannot be seen; accepted: single spaces"
    return None


def _said(value: Any) -> str:
    return "nothing" if value is None or value == [] else f"{value!r:.60}"

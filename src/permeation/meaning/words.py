"""The ambiguous words and their prompts: data/words.yaml, or a file of one's own, checked at the door."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_yaml

Sense = Literal["A", "B"]
Role = Literal["direction", "condition", "gradient"]
SENSES: tuple[Sense, Sense] = ("A", "B")
CONDITIONS = ("strong_A", "weak_A", "neutral", "weak_B", "strong_B")
MEAN = "mean"  # the name of the mean over words in the tables
# Writings that put no blanks between words, as Unicode names their characters.
WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
# Unicode's categories of characters that a tokenizer sees and a reader does not; and two of them that words may need:
# Persian and the writings of India join letters with them.
UNSEEN, JOINERS = ("Cc", "Cf"), ("\u200c", "\u200d")
# What a word's entry holds: the part, its lists, what they are for, and how many prompts each has at least.
PARTS: tuple[tuple[str, tuple[str, ...], Role, int], ...] = (
    ("direction", SENSES, "direction", 2),
    ("conditions", CONDITIONS, "condition", 1),
    ("gradient", SENSES, "gradient", 0),
)


@dataclass(frozen=True)
class Prompt:
    """A sentence that ends with the word it is about.

    Attributes:
        word: the ambiguous word.
        text: the sentence.
        role: `direction` (makes ê), `condition` or `gradient` (are measured along it).
        label: the sense, A or B; for a condition its name, strong_A … strong_B.
        rank: position in its list, from 0; in a gradient from weak to strong.
    """

    word: str
    text: str
    role: Role
    label: str
    rank: int


@dataclass(frozen=True)
class Word:
    """An ambiguous word, the names of its two senses, and its prompts in the order of the file."""

    word: str
    senses: Mapping[Sense, str]
    prompts: tuple[Prompt, ...]


def read_words(path: Path) -> tuple[Word, ...]:
    """Read a words file; its letters with accents are taken in Unicode's composed form, NFC.

    Raises PermeationError, naming the word and the prompt, where the file is not of the form in docs/meaning.md
    (Prompts), and where a prompt does not end with its word, has other blanks than single spaces, or has an invisible
    character.
    """
    words = tuple(_word(path, word, entry) for word, entry in read_yaml(path).items())
    if len(named := [entry.word for entry in words]) > len(set(named)):
        _reject(path, f"the word {next(each for each in named if named.count(each) > 1)!r} stands twice")
    return words


def select(prompts: Sequence[Prompt], word: str, role: str, *labels: str) -> list[int]:
    """Where a word's prompts of one role stand, label by label, each in the order of its list."""
    return [i for label in labels for i, p in enumerate(prompts) if (p.word, p.role, p.label) == (word, role, label)]


def _reject(path: Path, what: str) -> NoReturn:
    raise PermeationError(f"{path}: {what}")


def _blank(text: str) -> str:
    """The first blank of a text that is no single space between two words."""
    odd = next((c for c in text if c.isspace() and c != " "), None)
    if odd is None:
        return "two spaces in a row" if "  " in text else "a space in front"
    return f"the blank {_named(odd)}"


def _unseen(text: str) -> str | None:
    """The first character of a text that cannot be seen and is no blank."""
    return next((c for c in text if unicodedata.category(c) in UNSEEN and c not in JOINERS and not c.isspace()), None)


def _named(character: str) -> str:
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'no name').lower()})"


def _needs_no_blank(word: str) -> bool:
    """Whether the word's writing puts no blanks between words."""
    return unicodedata.name(word[0], "").startswith(WITHOUT_BLANKS)


def _word(path: Path, word: Any, entry: Any) -> Word:
    if not isinstance(word, str) or not word.strip() or word.split() != [word]:
        _reject(path, f"{word!r} is no word; accepted: one word without blanks (quote yes, no, on, off and numbers)")
    if (odd := _unseen(word)) is not None:
        _reject(path, f"the word {word!r} has the invisible character {_named(odd)}; accepted: none")
    word = unicodedata.normalize("NFC", word)
    if word == MEAN:
        _reject(path, f"the word {word!r} is what the results call the mean over the words; accepted: any other")
    parts = _mapping(path, word, entry, ("senses", *(part for part, *_ in PARTS)), ("gradient",))
    senses = _mapping(path, f"{word}.senses", parts["senses"], SENSES)
    for sense, name in senses.items():
        if not isinstance(name, str) or not name.strip():
            _reject(path, f"{word}.senses.{sense} is {name!r}; accepted: the name of the sense")
    return Word(word, senses, tuple(_prompts(path, word, parts)))


def _mapping(path: Path, where: str, value: Any, keys: tuple[str, ...], left_out: tuple[str, ...] = ()) -> Any:
    if not isinstance(value, Mapping) or not set(keys) - set(left_out) <= set(value) <= set(keys):
        found = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        free = f"; {', '.join(left_out)} may be left out" if left_out else ""
        _reject(path, f"{where}: found {found}; accepted: a mapping with exactly the keys {', '.join(keys)}{free}")
    return value


def _prompts(path: Path, word: str, parts: Any) -> Iterator[Prompt]:
    for part, labels, role, least in PARTS:
        if part not in parts:
            continue
        lists = _mapping(path, f"{word}.{part}", parts[part], labels)
        for label in labels:
            texts = [lists[label]] if part == "conditions" and isinstance(lists[label], str) else lists[label]
            where = f"{word}.{part}.{label}"
            if not isinstance(texts, list) or len(texts) < least:
                found = len(texts) if isinstance(texts, list) else type(texts).__name__
                _reject(path, f"{where}: found {found}; accepted: a list of at least {least} prompts")
            for rank, text in enumerate(texts):
                if not isinstance(text, str) or not text.strip():
                    _reject(path, f"{where}[{rank}]: found {text!r}; accepted: a sentence that ends with {word!r}")
                text = unicodedata.normalize("NFC", text)
                if (odd := _unseen(text)) is not None:
                    character = f"the invisible character {_named(odd)}"
                    _reject(path, f"{where}[{rank}]: the prompt {text!r} has {character}; accepted: none")
                front = text.removesuffix(word)
                if front == text or not (front != front.rstrip() or not front or _needs_no_blank(word)):
                    _reject(path, f"{where}[{rank}]: the prompt {text!r} does not end with the word {word!r}")
                if not front.strip():
                    _reject(path, f"{where}[{rank}]: the prompt {text!r} is the bare word, without any context")
                if text != " ".join(text.split()):
                    _reject(path, f"{where}[{rank}]: the prompt {text!r} has {_blank(text)}; accepted: single spaces")
                yield Prompt(word, text, role, label, rank)

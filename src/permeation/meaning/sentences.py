"""Sentences that others labelled: a table with the columns word, sense, sentence, read into the prompts of two senses.

A word needs six sentences of each of two senses, and a sentence four words in front of its word (docs/meaning.md,
Tables of sentences). What does not serve is left out and counted.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.meaning.words import SENSES, Prompt, Word, read_words

TABLES, LINES = (".csv", ".tsv"), (".jsonl", ".json")
COLUMNS = ("word", "sense", "sentence")  # may be there, too: start, the character at which the word starts; same_pos
IN_FRONT, LEAST = 4, 6  # words in front of the word; sentences of each sense
LEFT_OUT = ("broken", "without_word", "few_words_in_front", "repeated", "other_senses", "rare_word")


def read_prompts(path: Path) -> tuple[tuple[Word, ...], dict[str, int]]:
    """The words of a words file, or those of a table of sentences, and for a table what was left out, by reason."""
    is_table = path.suffix.lower() in (*TABLES, *LINES)
    return read_sentences(path) if is_table else (read_words(path), {})


def read_sentences(path: Path) -> tuple[tuple[Word, ...], dict[str, int]]:
    """The words of a table with their two most frequent senses, and how many sentences were left out, by reason.

    Raises PermeationError where the table cannot be read, lacks a column, or has no word with two senses.
    """
    left_out, by_word, seen = Counter(dict.fromkeys(LEFT_OUT, 0)), dict[str, list[Prompt]](), set[str]()
    for row in _rows(path):
        found = _sentence(row)
        if isinstance(found, str) or found.text in seen:
            left_out[found if isinstance(found, str) else "repeated"] += 1
        else:
            seen.add(found.text)
            by_word.setdefault(found.word, []).append(found)
    words: list[Word] = []
    for word, sentences in by_word.items():
        usual = sorted(name for name, _ in Counter(each.label for each in sentences).most_common(2))
        lists = [[each for each in sentences if each.label == sense] for sense in usual]
        left_out["other_senses"] += len(sentences) - sum(map(len, lists))
        if len(lists) < 2 or min(map(len, lists)) < LEAST:
            left_out["rare_word"] += sum(map(len, lists))
            continue
        prompts = [
            replace(each, label=sense, rank=rank)
            for sense, own in zip(SENSES, lists, strict=True)
            for rank, each in enumerate(own)
        ]
        words.append(Word(word, dict(zip(SENSES, usual, strict=True)), tuple(prompts)))
    if not words:
        alone = by_word and all(len({each.label for each in own}) == 1 for own in by_word.values())
        counts = [f"{count} {reason.replace('_', ' ')}" for reason, count in left_out.items() if count]
        found = "each word has one sense alone" if alone else f"left out: {', '.join(counts) or 'nothing'}"
        raise PermeationError(f"{path}: {found}; accepted: a word with {LEAST} sentences of each of two senses")
    return tuple(words), dict(left_out)


def _rows(path: Path) -> Iterable[dict[str, Any] | None]:
    """The table's rows; None for a line that is broken. A byte order mark is skipped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise PermeationError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    lines = io.StringIO(text)  # str.splitlines would end a line at U+2028 and the like, too
    if path.suffix.lower() in LINES:
        rows = [_object(line) for line in lines]
        if text.lstrip().startswith("[") or not any(rows):
            raise PermeationError(f"{path}: accepted are JSON lines, each an object with {', '.join(COLUMNS)}")
        for row in filter(None, rows):
            _check_columns(path, row)
        return rows
    tabs: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}  # in tab-separated values quotes are letters
    reader = csv.DictReader(lines, **(tabs if path.suffix.lower() == ".tsv" else {}))
    _check_columns(path, reader.fieldnames or ())
    return (None if None in row or None in row.values() else row for row in reader)


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _check_columns(path: Path, found: Any) -> None:
    if missing := [name for name in COLUMNS if name not in found]:
        raise PermeationError(f"{path}: no column {', '.join(missing)}; found: {', '.join(map(str, found)) or 'none'}")


def _sentence(row: dict[str, Any] | None) -> Prompt | str:
    """The sentence of a row, with the table's name of its sense for a label; or why it is left out."""
    if row is None or not all(str(row[name]).strip() for name in COLUMNS):
        return "broken"
    word, sense, text = (unicodedata.normalize("NFC", str(row[name])).strip() for name in COLUMNS)
    start = str(row.get("start") or "").strip()
    if start and not (start.isdecimal() and text[int(start) :][:1].isalnum()):
        return "broken"
    place = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
    at = int(start) if start else place.start() if place else None
    if at is None:
        return "without_word"
    if len(text[:at].split()) < IN_FRONT:
        return "few_words_in_front"
    same = str(row.get("same_pos") or "").strip().lower()
    return Prompt(word, text, "direction", sense, 0, at, same in ("1", "true", "yes") if same else None)

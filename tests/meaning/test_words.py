"""The shipped words files keep their rules, and a file that breaks one is told every word and prompt that does."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import direction_pairs, weaknesses
from permeation.meaning.words import CONDITIONS, SENSES, Word, read_words, select
from tests.conftest import PROJECT
from tests.support.tiny import WORDS_FILE

SHIPPED, FURTHER = read_words(str(WORDS_FILE)), read_words(PROJECT / "data" / "words-confirm.yaml")
SIZES = dict.fromkeys([each.word for each in SHIPPED], (12, 10)) | {each.word: (8, 3) for each in FURTHER}


def test_the_words_are_nine_and_36_further_ones() -> None:
    assert " ".join(entry.word for entry in SHIPPED) == "bank bat crane spring rock match light pitcher bass"
    assert len(SIZES) == 45
    for words in (SHIPPED, FURTHER):
        prompts = [prompt for entry in words for prompt in entry.prompts]
        assert set(weaknesses(prompts).values()) == {0}
        assert {word: len(pairs) for word, pairs in direction_pairs(prompts).items()} == {
            entry.word: SIZES[entry.word][0] for entry in words
        }


@pytest.mark.parametrize("entry", [*SHIPPED, *FURTHER], ids=list(SIZES))
def test_a_word_has_its_prompts(entry: Word) -> None:
    """All lists have their length; the word ends each prompt and stands nowhere else; twins end alike."""
    assert len(set(entry.senses.values())) == 2
    count = Counter((p.role, p.label) for p in entry.prompts)
    direction, gradient = SIZES[entry.word]
    assert all(count["direction", sense] == direction and count["gradient", sense] == gradient for sense in SENSES)
    assert all(count["condition", condition] >= 1 for condition in CONDITIONS)
    for prompt in entry.prompts:
        tokens = re.findall(r"[a-z]+", prompt.text.lower())
        assert tokens[-1] == entry.word
        assert tokens.count(entry.word) == 1
        assert len(tokens) >= 5
    for role in ("direction", "gradient"):
        a, b = ([entry.prompts[i].text.split()[-2] for i in select(entry.prompts, entry.word, role, s)] for s in SENSES)
        assert Counter(a) == Counter(b)


def write(tmp_path: Path, change: Callable[[Any], Any]) -> Path:
    entries = {"rock": yaml.safe_load(WORDS_FILE.read_text())["rock"]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(change(entries) or entries))
    return path


def set_prompt(text: Any) -> Callable[[Any], None]:
    def change(entries: Any) -> None:
        entries["rock"]["gradient"]["B"][4] = text

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_prompt("We like rock music"), "rock.gradient.B[4]: the prompt 'We like rock music' does not end with"),
        (set_prompt("We like shamrock"), "does not end with the word 'rock'"),
        (set_prompt("rock"), "is the bare word"),
        (
            set_prompt("We like hard\u00a0rock"),
            "'We like hard\\xa0rock' has a blank or a character that cannot be seen",
        ),
        (set_prompt("We like\u200b hard rock"), "'We like\\u200b hard rock' has a blank or a character that cannot"),
        (set_prompt("We like  hard rock"), "has a blank or a character that cannot be seen; accepted: single spaces"),
        (set_prompt(None), "rock.gradient.B[4]: found nothing; accepted: a sentence"),
        (lambda e: e["rock"]["direction"].update(A=["one rock"]), "accepted: a list of at least 2 prompts"),
        (lambda e: e["rock"].__delitem__("direction"), "accepted: senses, direction, conditions, gradient, each with"),
        (lambda e: e["rock"]["senses"].update(A=""), "rock.senses.A is ''"),
        (lambda e: {True: e["rock"]}, "True is no word"),
        (lambda e: {"hard rock": e["rock"]}, "'hard rock' is no word"),
        (lambda e: {"mean": e["rock"]}, "'mean' is no word"),
        (lambda _: {"rock": None}, "rock: found nothing; accepted: senses"),
    ],
)
def test_a_broken_file_names_the_word_and_the_prompt(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PermeationError, match=re.escape(message)):
        read_words(write(tmp_path, change))


def test_all_faults_are_named_at_once_and_a_missing_file_too(tmp_path: Path) -> None:
    def change(entries: Any) -> None:
        entries["rock"]["senses"]["A"] = 1
        entries["bank"] = {**entries["rock"], "gradient": [], "gradients": 1}
        set_prompt("We like shamrock")(entries)

    with pytest.raises(PermeationError) as error:
        read_words(write(tmp_path, change))
    message = str(error.value)
    for fault in (
        "rock.senses.A is 1",
        "rock.gradient.B[4]: the prompt",
        "bank: found conditions, direction, gradient, gradients, senses; accepted: senses",
        "bank.gradient: found nothing; accepted: A, B",
        "bank.direction",
    ):
        assert fault in message
    with pytest.raises(PermeationError, match=r"none.yaml cannot be read: No such file"):
        read_words(tmp_path / "none.yaml")


@pytest.mark.parametrize(("word", "text"), [("はし", "川を渡るために古いはし"), ("橋", "村の人々が木で作った橋")])
def test_a_language_without_blanks_needs_none(tmp_path: Path, word: str, text: str) -> None:
    both = {"A": [f"{i}{text}" for i in range(3)], "B": [f"{i} {text}" for i in range(3, 6)]}
    conditions = {name: f"{name}{text}" for name in CONDITIONS}  # each of a single prompt
    entry = {"senses": {"A": "x", "B": "y"}, "direction": both, "conditions": conditions}
    (read,) = read_words(write(tmp_path, lambda _: {word: entry}))
    assert len(read.prompts) == 11
    with pytest.raises(PermeationError, match="is the bare word"):
        read_words(write(tmp_path, lambda _: {word: {**entry, "direction": {"A": [word] * 3, "B": both["B"]}}}))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_read_however_it_is_written(tmp_path: Path, form: Literal["NFC", "NFD"], mark: str, end: str) -> None:
    """The key composed, the prompts in either form."""
    own = yaml.safe_load(WORDS_FILE.read_text())["rock"]
    text = yaml.safe_dump(own, width=9999).replace("rock", "Bänke")
    body = unicodedata.normalize(form, "".join(f"  {line}\n" for line in text.splitlines()))
    (tmp_path / "w.yaml").write_bytes((mark + ("Bänke:\n" + body).replace("\n", end)).encode())
    (entry,) = read_words(tmp_path / "w.yaml")
    assert entry.word == "Bänke"
    assert all(prompt.text.endswith(" Bänke") and prompt.word == "Bänke" for prompt in entry.prompts)


def test_two_forms_of_one_word_are_that_word_twice(tmp_path: Path) -> None:
    path = write(tmp_path, lambda _: None)
    text = path.read_text().replace("rock", "Bänke")
    path.write_text(text + unicodedata.normalize("NFD", text))
    with pytest.raises(PermeationError, match="the word 'Bänke' stands twice"):
        read_words(path)

"""data/words.yaml keeps its rules, and a file that breaks one is told which word and which prompt."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from permeation.frame.errors import PermeationError
from permeation.meaning.words import CONDITIONS, SENSES, Word, read_words, select
from tests.support.tiny import WORDS_FILE

NINE = ["bank", "bat", "crane", "spring", "rock", "match", "light", "pitcher", "bass"]
SHIPPED = read_words(WORDS_FILE)


def test_the_nine_words_are_there_with_two_senses_each() -> None:
    assert [entry.word for entry in SHIPPED] == NINE
    assert all(len(set(entry.senses.values())) == 2 for entry in SHIPPED)


@pytest.mark.parametrize("entry", SHIPPED, ids=NINE)
def test_every_list_has_its_length(entry: Word) -> None:
    count = Counter((p.role, p.label) for p in entry.prompts)
    assert all(count["direction", sense] >= 8 for sense in SENSES)
    assert all(count["gradient", sense] == 10 for sense in SENSES)
    assert all(count["condition", condition] >= 1 for condition in CONDITIONS)


@pytest.mark.parametrize("entry", SHIPPED, ids=NINE)
def test_the_word_ends_its_prompt_and_stands_nowhere_else(entry: Word) -> None:
    for prompt in entry.prompts:
        tokens = re.findall(r"[a-z]+", prompt.text.lower())
        assert tokens[-1] == entry.word
        assert tokens.count(entry.word) == 1
        assert len(tokens) >= 5


def test_no_prompt_serves_twice() -> None:
    texts = [" ".join(p.text.lower().split()) for entry in SHIPPED for p in entry.prompts]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("entry", SHIPPED, ids=NINE)
def test_the_two_senses_end_alike(entry: Word) -> None:
    """What stands directly before the word must not tell the senses apart."""
    for role, labels in (("direction", SENSES), ("gradient", SENSES)):
        a, b = (Counter(p.text.split()[-2] for p in entry.prompts if (p.role, p.label) == (role, s)) for s in labels)
        assert a == b


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
        (set_prompt("We like hard rock."), "does not end with the word 'rock'"),
        (set_prompt("We like shamrock"), "does not end with the word 'rock'"),
        (set_prompt("rock"), "is the bare word"),
        (set_prompt("We like hard\u00a0rock"), "has the blank U+00A0 (no-break space); accepted: single spaces"),
        (set_prompt("We like\thard rock"), "has the blank U+0009 (no name)"),
        (
            set_prompt("We like\u200b hard rock"),
            "has the invisible character U+200B (zero width space); accepted: none",
        ),
        (set_prompt("We like har\u00add rock"), "has the invisible character U+00AD (soft hyphen)"),
        (set_prompt("\ufeffWe like hard rock"), "has the invisible character U+FEFF"),
        (set_prompt("We like\x1b hard rock"), "has the invisible character U+001B (no name)"),
        (lambda e: {"ro\u200bck": e["rock"]}, "the word 'ro\\u200bck' has the invisible character U+200B"),
        (set_prompt("We like  hard rock"), "has two spaces in a row"),
        (set_prompt(" We like hard rock"), "has a space in front"),
        (set_prompt(None), "rock.gradient.B[4]: found None"),
        (set_prompt(""), "rock.gradient.B[4]: found ''"),
        (
            lambda e: e["rock"]["direction"].update(A=e["rock"]["direction"]["A"][:1]),
            "rock.direction.A: found 1; accepted: a list of at least 2 prompts",
        ),
        (lambda e: e["rock"]["direction"].update(A="one rock"), "rock.direction.A: found str"),
        (
            lambda e: e["rock"].__delitem__("direction"),
            "accepted: a mapping with exactly the keys senses, direction, conditions",
        ),
        (lambda e: e["rock"]["conditions"].__delitem__("neutral"), "rock.conditions: found"),
        (lambda e: e["rock"]["senses"].update(A=""), "rock.senses.A is ''"),
        (lambda e: {True: e["rock"]}, "True is no word"),
        (lambda e: {"hard rock": e["rock"]}, "'hard rock' is no word"),
        (lambda e: {"mean": e["rock"]}, "the word 'mean' is what the results call the mean over the words"),
        (lambda _: {"rock": None}, "rock: found NoneType"),
    ],
)
def test_a_broken_file_names_the_word_and_the_prompt(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PermeationError, match=re.escape(message)):
        read_words(write(tmp_path, change))


@pytest.mark.parametrize(("word", "text"), [("はし", "川を渡るために古いはし"), ("橋", "村の人々が木で作った橋")])
def test_a_language_without_blanks_needs_none(tmp_path: Path, word: str, text: str) -> None:
    both = {"A": [f"{i}{text}" for i in range(3)], "B": [f"{i} {text}" for i in range(3, 6)]}
    conditions = {name: f"{name}{text}" for name in CONDITIONS}
    entry = {"senses": {"A": "x", "B": "y"}, "direction": both, "conditions": conditions}
    (read,) = read_words(write(tmp_path, lambda _: {word: entry}))
    assert len(read.prompts) == 11
    with pytest.raises(PermeationError, match="is the bare word"):
        read_words(write(tmp_path, lambda _: {word: {**entry, "direction": {"A": [word] * 3, "B": both["B"]}}}))


def test_the_joiners_of_a_writing_are_part_of_it(tmp_path: Path) -> None:
    """Persian writes the zero-width non-joiner within words."""
    path = write(tmp_path, set_prompt("We like kitab\u200cha hard rock"))
    assert any("\u200c" in prompt.text for entry in read_words(path) for prompt in entry.prompts)


def test_a_word_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, lambda _: None)
    path.write_text(path.read_text() * 2)
    with pytest.raises(PermeationError, match="the key 'rock' stands twice"):
        read_words(path)


def test_a_condition_may_be_a_single_prompt(tmp_path: Path) -> None:
    entry = read_words(write(tmp_path, lambda e: e["rock"]["conditions"].update(neutral="They saw the rock")))[0]
    assert [entry.prompts[i].text for i in select(entry.prompts, "rock", "condition", "neutral")] == [
        "They saw the rock"
    ]


def test_select_keeps_the_order_of_the_labels() -> None:
    prompts = SHIPPED[0].prompts
    labels = [prompts[i].label for i in select(prompts, "bank", "gradient", "B", "A")]
    assert labels == ["B"] * 10 + ["A"] * 10


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
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

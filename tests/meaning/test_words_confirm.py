"""data/words-confirm.yaml keeps the rules of data/words.yaml."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from permeation.meaning.activations import MANY, direction_pairs, weaknesses
from permeation.meaning.words import CONDITIONS, SENSES, Word, read_words, select
from tests.conftest import PROJECT
from tests.support.tiny import WORDS_FILE

PATH = PROJECT / "data" / "words-confirm.yaml"
WORDS = read_words(PATH)
NAMES = [entry.word for entry in WORDS]


def test_the_words_are_36_further_ones() -> None:
    assert len(set(NAMES)) == 36
    assert not set(NAMES) & {entry.word for entry in read_words(WORDS_FILE)}


def test_each_word_says_what_it_is() -> None:
    """Part of speech, whether its senses are related, and how frequent it is, in the line above it."""
    lines = PATH.read_text().splitlines()
    said = {word.rstrip(":"): above for above, word in pairwise(lines) if re.fullmatch(r"\w+:", word)}
    kinds = r"# (noun|verb|adjective), (related|unrelated), (common|less common)"
    assert [word for word in NAMES if not re.fullmatch(kinds, said[word])] == []


@pytest.mark.parametrize("entry", WORDS, ids=NAMES)
def test_a_word_has_its_prompts(entry: Word) -> None:
    count = Counter((p.role, p.label) for p in entry.prompts)
    assert all(count["direction", sense] == MANY for sense in SENSES)
    assert all(count["gradient", sense] == 3 for sense in SENSES)
    assert all(count["condition", condition] == 1 for condition in CONDITIONS)
    for prompt in entry.prompts:
        tokens = re.findall(r"[a-z]+", prompt.text.lower())
        assert tokens[-1] == entry.word
        assert tokens.count(entry.word) == 1
        assert len(tokens) >= 5


@pytest.mark.parametrize("entry", WORDS, ids=NAMES)
def test_prompts_at_one_place_share_their_last_two_words(entry: Word) -> None:
    for role in ("direction", "gradient"):
        a, b = (
            [entry.prompts[i].text.split()[-2:] for i in select(entry.prompts, entry.word, role, s)] for s in SENSES
        )
        assert a == b


def test_nothing_weakens_the_list() -> None:
    prompts = [prompt for entry in WORDS for prompt in entry.prompts]
    assert set(weaknesses(prompts).values()) == {0}
    assert {word: len(pairs) for word, pairs in direction_pairs(prompts).items()} == dict.fromkeys(NAMES, MANY)

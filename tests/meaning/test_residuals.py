"""Prompts as tokens: what must be the same in all prompts of a word, and what a model can take."""

from typing import Any

import pytest

from permeation.frame.errors import PermeationError
from permeation.meaning.residuals import tokenize_prompts
from permeation.meaning.words import Prompt, read_words
from tests.support import tiny
from tests.support.tiny import WORDS_FILE

SHIPPED = [prompt for word in read_words(WORDS_FILE) for prompt in word.prompts]


@pytest.fixture(scope="module")
def bpe() -> Any:
    return tiny.byte_tokenizer()


def prompts(*texts: str, word: str = "bank") -> list[Prompt]:
    return [Prompt(word, text, "direction", "A", i) for i, text in enumerate(texts)]


def test_the_shipped_prompts_end_in_the_same_tokens(bpe: Any) -> None:
    for tokenizer in (bpe, tiny.tokenizer()):
        sequences = tokenize_prompts(tokenizer, SHIPPED, prepend_bos=True, n_ctx=512)
        assert [ids[0] for ids in sequences] == [tokenizer.bos_token_id] * len(SHIPPED)


@pytest.mark.parametrize("blank", ["\u00a0", "\t", "\n", "\u2009", "\u200b ", "-", "\u00ad"])
def test_a_prompt_whose_word_has_other_tokens_is_named(bpe: Any, blank: str) -> None:
    texts = ("He went to the bank", f"She sat on the{blank}bank", "They saw the bank")
    if blank.endswith(" "):  # something in front of the space leaves the word's own token as it is
        tokenize_prompts(bpe, prompts(*texts), prepend_bos=False, n_ctx=512)
        return
    with pytest.raises(PermeationError, match=r"bank: the prompt 'She sat on the.*bank' .direction A. ends in the tok"):
        tokenize_prompts(bpe, prompts(*texts), prepend_bos=False, n_ctx=512)


def test_a_word_of_several_tokens_is_compared_whole(bpe: Any) -> None:
    word = "Überbank"
    good = prompts(f"We saw the {word}", f"They like a {word}", word=word)
    ids = tokenize_prompts(bpe, good, prepend_bos=False, n_ctx=512)
    assert bpe.decode(ids[0][-2:]) != f" {word}"
    with pytest.raises(PermeationError, match="ends in the tokens"):
        tokenize_prompts(bpe, [*good, *prompts(f"I know one\u00a0{word}", word=word)], prepend_bos=False, n_ctx=512)


def test_a_word_that_the_tokenizer_does_not_know_is_named() -> None:
    unknown = prompts("He went to the zyx", word="zyx")
    with pytest.raises(PermeationError, match="zyx: the prompts' last tokens are 'the' '<unk>', from which the tokeni"):
        tokenize_prompts(tiny.tokenizer(), unknown, prepend_bos=False, n_ctx=512)


def test_a_prompt_longer_than_the_positions_is_named_with_its_tokens() -> None:
    long = prompts("again " * 70 + "at the bank")
    with pytest.raises(PermeationError, match=r"bank: the prompt 'again .* …' .* has 74 tokens; .* at most 64"):
        tokenize_prompts(tiny.tokenizer(), long, prepend_bos=True, n_ctx=64)
    assert len(tokenize_prompts(tiny.tokenizer(), long, prepend_bos=True, n_ctx=74)[0]) == 74


def test_a_bos_that_the_checkpoints_own_tokenizer_lacks_is_an_error() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token = None
    tokenizer.eos_token = "bank"
    with pytest.raises(PermeationError, match="no BOS token; accepted: false"):
        tokenize_prompts(tokenizer, prompts("at the bank"), prepend_bos=True, n_ctx=64)

"""Residual streams are those of a bridge; prompts as tokens, and what these have to share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from permeation.frame.errors import PermeationError
from permeation.meaning.residuals import prompt_places, residuals_at, tokenize, tokenize_prompts, without_unseen_mean
from permeation.meaning.words import Prompt, read_words
from permeation.models.load import load_bridge, load_model
from permeation.models.tokenizer import load_tokenizer
from tests.support import tiny
from tests.support.tiny import WORDS_FILE

RNG = np.random.default_rng(0)
SHIPPED = [prompt for word in read_words(WORDS_FILE) for prompt in word.prompts]
PROMPTS = [
    "She bank",
    "He was refused a mortgage after two long interviews at the bank",
    "They paid off the last of their student loans at the bank",
    "The bank",
    "He waded out of the cold current and collapsed upon the bank",
]


def residuals(checkpoint: Path, batch_size: int) -> np.ndarray:
    sequences = tokenize(load_tokenizer(checkpoint), PROMPTS, prepend_bos=True)
    found = np.empty((len(PROMPTS), tiny.LAYERS + 1, tiny.WIDTH), np.float32)
    positions = [[len(sequence) - 1] for sequence in sequences]
    for batch, values in residuals_at(load_model(checkpoint), sequences, positions, batch_size):
        found[batch] = values[:, 0]
    return found


@pytest.mark.parametrize(
    ("norm", "unseen"),
    [
        (torch.nn.LayerNorm(8), True),
        (CohereLayerNorm(8), True),  # of another class than PyTorch's
        (LlamaRMSNorm(8), False),
        (torch.nn.Linear(8, 4), False),
        (torch.nn.Identity(), False),
    ],
)
def test_a_mean_that_the_final_norm_takes_out_is_not_seen(
    norm: torch.nn.Module, unseen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permeation.meaning.residuals.final_norm", lambda _: norm)
    stream = RNG.normal(size=(3, 8)).astype(np.float32)
    found = without_unseen_mean(torch.nn.Linear(1, 1), stream)
    np.testing.assert_array_equal(found, stream - stream.mean(axis=1, keepdims=True) if unseen else stream)


def test_a_padded_batch_gives_what_single_prompts_give(checkpoint: Path) -> None:
    np.testing.assert_allclose(residuals(checkpoint, 5), residuals(checkpoint, 1), rtol=1e-5, atol=1e-5)


def test_residuals_are_those_of_a_bridge_with_centred_writing_weights(checkpoint: Path) -> None:
    bridge = load_bridge(checkpoint, torch.device("cpu"))
    bridge.enable_compatibility_mode(disable_warnings=True)
    ids = torch.tensor(tokenize(bridge.tokenizer, PROMPTS[1:2], prepend_bos=True))
    _, cache = bridge.run_with_cache(ids)
    theirs = [cache["blocks.0.hook_resid_pre"], *(cache[f"blocks.{i}.hook_resid_post"] for i in range(tiny.LAYERS))]
    np.testing.assert_allclose(residuals(checkpoint, 2)[1], [t[0, -1].numpy() for t in theirs], atol=1e-4)


def prompt(text: str) -> Prompt:
    return Prompt(text.split()[-1], text, "direction", "A", 0)


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_the_token_before_the_word_is_the_last_of_the_prompt_without_it(prepend_bos: bool) -> None:
    sequences = tokenize(tiny.tokenizer(), PROMPTS, prepend_bos)
    places = prompt_places(tiny.tokenizer(), [prompt(text) for text in PROMPTS], sequences)
    assert places == [(len(sequence) - 1, len(sequence) - 2) for sequence in sequences]


def test_a_position_is_read_where_it_is(checkpoint: Path) -> None:
    """The token before the word is the last one of the prompt that is cut there."""
    model = load_model(checkpoint)
    sequences = tokenize(load_tokenizer(checkpoint), PROMPTS[1:3], prepend_bos=True)
    ((_, both),) = residuals_at(model, sequences, [(len(s) - 1, len(s) - 2) for s in sequences], 2)
    cut = [sequence[:-1] for sequence in sequences]
    ((_, alone),) = residuals_at(model, cut, [[len(s) - 1] for s in cut], 2)
    np.testing.assert_allclose(both[:, 1], alone[:, 0], atol=1e-5)


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
    with pytest.raises(PermeationError, match=r"zyx: .* ends in the tokens '<unk>', where the word is cut up"):
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

"""Windows of a text: spread over it, never overlapping, and which article they are from."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import pre_tokenizers
from tokenizers.processors import ByteLevel, TemplateProcessing

from permeation.frame.errors import PermeationError
from permeation.perplexity.windows import Text, bos_of, spread_order
from tests.support import tiny


def text(length: int, bos: int | None = None) -> Text:
    return Text(torch.arange(length), torch.tensor([], dtype=torch.long), bos)


def test_windows_are_spread_over_the_text() -> None:
    windows = text(103).spread(10)
    assert torch.equal(windows.tokens.flatten().sort().values, torch.arange(100))
    assert len(windows.articles.unique()) == 10
    assert sorted(text(103).spread(10, 39).tokens[:, 0].tolist()) == [0, 30, 60]
    assert torch.equal(text(103).spread(10, 10**9).tokens, windows.tokens)


def test_with_a_bos_every_window_begins_with_it_and_scores_as_many_tokens() -> None:
    windows = text(103, bos=7).spread(10)
    assert windows.scored == 9
    assert windows.tokens[:, 0].tolist() == [7] * 11
    assert torch.equal(windows.tokens[:, 1:].flatten().sort().values, torch.arange(99))


@pytest.mark.parametrize(("length", "max_tokens"), [(9, None), (100, 9), (100, -20)])
def test_a_text_or_a_number_of_tokens_below_a_window_is_an_error(length: int, max_tokens: int | None) -> None:
    with pytest.raises(PermeationError, match=rf"context is 10.* the text has {length} tokens; accepted: at least a w"):
        text(length).spread(10, max_tokens)


def test_auto_takes_the_bos_that_the_tokenizer_adds() -> None:
    tokenizer = tiny.tokenizer()
    assert bos_of(tokenizer, "auto") is None
    assert bos_of(tokenizer, True) == tokenizer.bos_token_id
    adds = tiny.tokenizer()
    adds.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    assert bos_of(adds, "auto") == adds.bos_token_id
    assert bos_of(adds, False) is None
    without = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="<unk>")
    assert bos_of(without, "auto") is None
    with pytest.raises(PermeationError, match=r"this tokenizer has no BOS token; accepted: auto \| false"):
        bos_of(without, True)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 100])
def test_every_beginning_of_the_order_is_spread_over_the_text(count: int) -> None:
    order = spread_order(count)
    assert sorted(order.tolist()) == list(range(count))
    for size in (2, 4, 8):
        if size <= count:
            # one window in each of `size` equal parts of the text
            assert sorted((order[:size] * size // count).tolist()) == list(range(size))


def test_a_window_is_of_the_article_it_starts_in() -> None:
    characters = "in front the bank of the river by the bank and money in the bank"
    starts = [characters.index("the bank of"), characters.index("and money")]
    text = Text.tokenize(tiny.tokenizer(), characters, starts)
    assert text.articles.tolist() == [2, 10]
    assert len(text.tokens) == 15
    assert text.windows(torch.tensor([0, 2, 8, 10, 12]), 3).articles.tolist() == [0, 1, 1, 2, 2]


def test_an_article_that_begins_with_a_blank_keeps_its_start() -> None:
    """The offsets of GPT-2's tokenizer leave a token's blank out; a word-level tokenizer has no token for it."""
    trimmed = tiny.byte_tokenizer()
    trimmed.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trimmed.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    characters = "the bank the river"
    for tokenizer in (trimmed, tiny.tokenizer()):
        begun = Text.tokenize(tokenizer, characters, [0, 8])
        before = len(tokenizer(characters[:8], add_special_tokens=False).input_ids)
        assert begun.articles.tolist() == [0, before]
    late = Text.tokenize(tiny.tokenizer(), characters + "  ", [19])  # nothing behind it: the rest is one article
    assert late.windows(torch.arange(3), 2).articles.tolist() == [0, 0, 0]


def test_the_name_of_a_special_token_in_a_text_is_that_token() -> None:
    tokenizer = tiny.byte_tokenizer()
    named, plain = (Text.tokenize(tokenizer, f"at the {name} bank").tokens.tolist() for name in ("<s>", "<t>"))
    assert tokenizer.bos_token_id in named
    assert tokenizer.bos_token_id not in plain


def test_a_tokenizer_without_offsets_knows_articles(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"<unk>": 0, "a": 1, "b": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    begun = Text.tokenize(tokenizer, "a b a b", [0, 4])
    assert begun.tokens.tolist() == [1, 2, 1, 2]
    assert begun.articles.tolist() == [0, 2]


@pytest.mark.parametrize("bos", [None, 7])
def test_calibration_text_and_measured_text_never_meet(bos: int | None) -> None:
    whole = text(1000, bos)
    learned, measured = (windows.tokens for windows in whole.split(24, 240, 20, None))
    assert torch.equal(whole.split(24, 240, 20, 79)[1].tokens, measured[:3])
    if bos is None:
        assert learned[:, 0].tolist() == [48, 144, 240, 336, 432, 528, 624, 720, 816, 912]
    else:
        learned, measured = learned[:, 1:], measured[:, 1:]
    assert learned.shape == (10, 24 - (bos is not None))
    assert not set(learned.flatten().tolist()) & set(measured.flatten().tolist())


def test_what_is_learned_from_leaves_enough_to_measure_on() -> None:
    for tokens, count in ((24 * 25, 25), (23, 0)):
        with pytest.raises(PermeationError, match=rf"moments.tokens is {tokens} .*: {count} windows; the text has 41"):
            text(1000).split(24, tokens, 20, None)
    with pytest.raises(PermeationError, match=r"leaves no window of the text's 40 tokens beside the moments' 20"):
        text(40).split(10, 20, 30, None)

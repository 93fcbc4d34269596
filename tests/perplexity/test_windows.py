"""Windows of a text: spread over it, never overlapping, and which article they are from."""

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing

from permeation.frame.errors import PermeationError
from permeation.perplexity.windows import Text, bos_of, calibration_starts, spread_order, window_starts
from tests.support import tiny


def text(length: int, bos: int | None = None) -> Text:
    return Text(torch.arange(length), torch.tensor([], dtype=torch.long), bos)


def test_windows_are_spread_over_the_text() -> None:
    everything = window_starts(103, 10, None)
    assert sorted(everything.tolist()) == list(range(0, 100, 10))
    assert sorted(window_starts(103, 10, 3).tolist()) == [0, 30, 60]
    assert torch.equal(window_starts(103, 10, 10**9), everything)
    windows = text(103).spread(10, None)
    assert torch.equal(windows.tokens.flatten().sort().values, torch.arange(100))
    assert len(windows.articles.unique()) == 10
    assert len(text(103).spread(10, 39).tokens) == 3


def test_with_a_bos_every_window_begins_with_it_and_scores_as_many_tokens() -> None:
    windows = text(103, bos=7).spread(10, None)
    assert windows.scored == 9
    assert windows.tokens[:, 0].tolist() == [7] * 11
    assert torch.equal(windows.tokens[:, 1:].flatten().sort().values, torch.arange(99))


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
    with pytest.raises(PermeationError, match=r"this model's tokenizer has no BOS token; accepted: auto \| false"):
        bos_of(without, True)


def test_a_text_shorter_than_a_window_is_an_error() -> None:
    with pytest.raises(PermeationError, match=r"the corpus has 9 tokens; accepted: at least a window, which has 10"):
        window_starts(9, 10, None)
    with pytest.raises(PermeationError, match=r"perplexity.max_tokens is less than perplexity.context"):
        window_starts(100, 10, 0)


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


@pytest.mark.parametrize("bos", [None, 3])
def test_a_text_is_read_as_it_was_written(bos: int | None, tmp_path: Path) -> None:
    written = Text(torch.arange(9), torch.tensor([2, 5]), bos)
    written.write(tmp_path)
    read = Text.read(tmp_path)
    assert torch.equal(read.tokens, written.tokens)
    assert torch.equal(read.articles, written.articles)
    assert read.bos == bos


def test_an_article_whose_first_character_is_no_token_counts_with_the_one_before() -> None:
    text = Text.tokenize(tiny.tokenizer(), "the bank  the river", [0, 8])
    assert text.articles.tolist() == [0]


@pytest.mark.parametrize("bos", [None, 7])
def test_calibration_text_and_measured_text_never_meet(bos: int | None) -> None:
    whole = text(1000, bos)
    learned, measured = whole.calibration(24, 240).tokens, whole.held_out(20, None, 24, 240).tokens
    if bos is not None:
        learned, measured = learned[:, 1:], measured[:, 1:]
    assert learned.shape == (10, 24 - (bos is not None))
    assert not set(learned.flatten().tolist()) & set(measured.flatten().tolist())
    assert torch.equal(whole.held_out(20, 79, 24, 240).tokens, whole.held_out(20, None, 24, 240).tokens[:3])


def test_what_is_learned_from_leaves_enough_to_measure_on() -> None:
    assert calibration_starts(1000, 24, 10).tolist() == [48, 144, 240, 336, 432, 528, 624, 720, 816, 912]
    with pytest.raises(PermeationError, match=r"moments.tokens asks for 25 windows; the text has 1000 tokens"):
        calibration_starts(1000, 24, 25)
    with pytest.raises(PermeationError, match=r"moments.tokens is less than moments.context"):
        calibration_starts(1000, 24, 0)
    with pytest.raises(PermeationError, match=r"leaves no window of the text's 40 tokens beside the moments' 20"):
        text(40).held_out(30, None, 10, 20)

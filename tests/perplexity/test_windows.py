"""Windows of a text: spread over it, never overlapping, and which article they are from."""

import re

import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.perplexity.windows import Text, calibration_positions, held_out_starts, spread_order, window_starts
from tests.support import tiny


def test_windows_are_spread_over_the_text() -> None:
    everything = window_starts(103, 10, None)
    assert sorted(everything.tolist()) == list(range(0, 100, 10))
    assert sorted(window_starts(103, 10, 39).tolist()) == [0, 30, 60]
    assert torch.equal(window_starts(103, 10, 10**9), everything)
    windows = Text(torch.arange(103), torch.tensor([], dtype=torch.long)).spread(10, None)
    assert torch.equal(windows.tokens.flatten().sort().values, torch.arange(100))
    assert len(windows.articles.unique()) == 10


def test_a_text_shorter_than_a_window_is_an_error() -> None:
    with pytest.raises(
        PermeationError, match=r"the corpus has 9 tokens; accepted: at least perplexity.context, which is 10"
    ):
        window_starts(9, 10, None)
    with pytest.raises(PermeationError, match=re.escape("perplexity.max_tokens is 9; accepted: at least")):
        window_starts(100, 10, 9)


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
    again = Text.from_tensors(text.tensors())
    assert torch.equal(again.tokens, text.tokens)


def test_an_article_whose_first_character_is_no_token_counts_with_the_one_before() -> None:
    text = Text.tokenize(tiny.tokenizer(), "the bank  the river", [0, 8])
    assert text.articles.tolist() == [0]


def test_calibration_text_and_measured_text_never_meet() -> None:
    calibration = calibration_positions(1000, 24, 240)
    assert calibration.shape == (10, 24)
    assert calibration[:, 0].tolist() == [48, 144, 240, 336, 432, 528, 624, 720, 816, 912]
    starts = held_out_starts(1000, calibration, 20, None)
    measured = {int(start) + i for start in starts for i in range(20)}
    assert not measured & set(calibration.flatten().tolist())
    assert torch.equal(held_out_starts(1000, calibration, 20, 79), starts[:3])
    with pytest.raises(
        PermeationError, match=r"moments.tokens is 600; the text has 1000 tokens, of which at most half"
    ):
        calibration_positions(1000, 24, 600)
    with pytest.raises(PermeationError, match=r"moments.tokens is 23; accepted: at least moments.context"):
        calibration_positions(1000, 24, 23)

"""Windows, summed NLL and paired ratios."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from permeation import model as models
from permeation import perplexity
from permeation.errors import PermeationError
from permeation.perplexity import Comparison, cut_windows, paired_ratio, token_nll, window_nll
from tests import tiny


def test_windows_are_spread_over_the_text() -> None:
    tokens = torch.arange(103)
    everything = cut_windows(tokens, 10, None)
    assert everything.shape == (10, 10)
    assert torch.equal(everything.flatten(), torch.arange(100))
    assert cut_windows(tokens, 10, 39)[:, 0].tolist() == [0, 30, 60]
    assert torch.equal(cut_windows(tokens, 10, 10**9), everything)


def test_a_text_shorter_than_a_window_is_an_error() -> None:
    with pytest.raises(
        PermeationError, match=r"the corpus has 9 tokens; accepted: at least perplexity.context, which is 10"
    ):
        cut_windows(torch.arange(9), 10, None)
    with pytest.raises(PermeationError, match=re.escape("perplexity.max_tokens is 9; accepted: at least")):
        cut_windows(torch.arange(100), 10, 9)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_nll_is_that_of_plain_transformers(checkpoint: Path, batch_size: int) -> None:
    network = models.load(checkpoint)
    windows = torch.randint(len(tiny.tokenizer()), (5, 24), generator=torch.Generator().manual_seed(0))
    nll = np.concatenate(list(window_nll(network, windows, batch_size)))
    expected = [network(window[None], labels=window[None]).loss.double().item() * 23 for window in windows]
    np.testing.assert_allclose(nll, expected, rtol=1e-6)
    assert perplexity.perplexity(nll, 5 * 23) == pytest.approx(np.exp(sum(expected) / 115))


def test_nll_by_tiles_is_the_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "VOCABULARY_TILE", 7)
    hidden, unembedding = torch.randn(11, 5), 3 * torch.randn(30, 5)
    targets = torch.randint(30, (11,))
    expected = torch.nn.functional.cross_entropy(hidden.double() @ unembedding.double().T, targets, reduction="none")
    torch.testing.assert_close(token_nll(hidden, unembedding, targets), expected, atol=1e-5, rtol=1e-5)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    network = tiny.model("gpt2")
    network.transformer.ln_f.weight[0] = torch.inf
    with pytest.raises(PermeationError, match="not finite"):
        list(window_nll(network, torch.randint(9, (2, 8)), 2))


def test_the_ratio_of_a_model_to_itself_is_one() -> None:
    network = tiny.model("llama")
    windows = torch.randint(9, (4, 16), generator=torch.Generator().manual_seed(0))
    baseline = np.concatenate(list(window_nll(network, windows, 2)))
    told: list[int] = []
    ratio = Comparison(windows, baseline, batch_size=2).ratio(network, told.append)
    assert (ratio.ratio, ratio.low, ratio.high) == (1, 1, 1)
    assert told == [32, 32]


def test_the_interval_covers_the_true_ratio_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        baseline = rng.normal(300, 40, size=8)
        ratio = paired_ratio(baseline + 100 * rng.normal(0.05, 0.02, size=8), baseline, 100)
        hits += ratio.low < np.exp(0.05) < ratio.high
    assert 0.94 < hits / 2000 < 0.96

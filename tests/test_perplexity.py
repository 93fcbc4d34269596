"""Windows, summed NLL and paired ratios."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from permeation import model as models
from permeation import perplexity
from permeation.errors import PermeationError
from permeation.perplexity import (
    Comparison,
    Ratio,
    cut_windows,
    looks,
    paired_ratio,
    spread_order,
    token_nll,
    window_nll,
)
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
    assert perplexity.perplexity(float(nll.sum()), 5 * 23) == pytest.approx(np.exp(sum(expected) / 115))


def test_nll_by_tiles_is_the_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(perplexity.VOCABULARY_TILE, "cpu", 7)
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
    ratio = Comparison(windows, baseline, "float32", batch_size=2, tolerance=None).ratio(network, told.append)
    assert ratio == Ratio(1.0, 1.0, 1.0, tokens=4 * 15)
    assert told == [32, 32]


def test_the_interval_covers_the_true_ratio_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        baseline = rng.normal(300, 40, size=8)
        ratio = paired_ratio(baseline + 100 * rng.normal(0.05, 0.02, size=8), baseline, 100)
        hits += ratio.low < np.exp(0.05) < ratio.high
    assert 0.94 < hits / 2000 < 0.96


@pytest.mark.parametrize("count", [1, 2, 7, 64, 100])
def test_every_beginning_of_the_order_is_spread_over_the_text(count: int) -> None:
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    for size in (2, 4, 8):
        if size <= count:
            # one window in each of `size` equal parts of the text
            assert sorted(order[:size] * size // count) == list(range(size))


def test_without_a_tolerance_there_is_one_look_and_with_one_few() -> None:
    assert looks(20, None) == [20]
    assert looks(5, 0.01) == [5]
    assert looks(64, 0.01) == [8, 16, 32, 64]
    assert looks(70, 0.01) == [8, 16, 32, 64, 70]


@pytest.mark.parametrize("draw", ["normal", "skewed"])
def test_stopping_early_keeps_the_coverage(draw: str) -> None:
    """Differences as on real text, ± 0.04 nats a window around log 1.05, stopped at ± 1 % or after 256 windows."""
    rng, runs = np.random.default_rng(0), 1500
    hits, spent = 0, []
    for _ in range(runs):
        noise = rng.normal(size=256) if draw == "normal" else rng.gamma(4.0, 0.5, size=256) - 2
        differences = np.log(1.05) + 0.04 * noise
        for look in looks(256, 0.01):
            ratio = paired_ratio(differences[:look], np.zeros(look), 1)
            if ratio.within(0.01):
                break
        hits += ratio.low < 1.05 < ratio.high
        spent.append(look)
    assert 64 <= np.mean(spent) <= 128  # (1.96 · 0.04 / 0.01)² = 61 are needed
    assert hits / runs > 0.935


def test_windows_are_added_until_the_interval_is_narrow_enough() -> None:
    network = tiny.model("llama")
    windows = torch.randint(9, (32, 16), generator=torch.Generator().manual_seed(0))
    nll = np.concatenate(list(window_nll(network, windows)))
    baseline = nll - 15 * np.log(1.05) * (1 + 0.01 * np.random.default_rng(0).normal(size=32))
    told: list[int] = []
    ratio = Comparison(windows, baseline, "float32", "auto", tolerance=0.01).ratio(network, told.append)
    assert ratio.tokens == 8 * 15
    assert sum(told) == 8 * 16
    assert ratio.ratio == pytest.approx(1.05, abs=1e-3)

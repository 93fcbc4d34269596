"""A changed model against the untouched one: the ratio, its interval, and when to stop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from permeation.frame.errors import PermeationError
from permeation.frame.journal import Journal
from permeation.perplexity.nll import window_nll
from permeation.perplexity.ratio import Baseline, Estimate, estimate, look_schedule, untouched_nll
from permeation.perplexity.windows import Windows
from tests.support import tiny


def windows(count: int) -> Windows:
    tokens = torch.randint(9, (count, 16), generator=torch.Generator().manual_seed(0))
    return Windows(tokens, torch.arange(count))


def test_the_ratio_of_a_model_to_itself_is_one() -> None:
    network, chosen = tiny.model("llama"), windows(4)
    baseline = Baseline(chosen, np.concatenate(list(window_nll(network, chosen.tokens))))
    ratio = baseline.ratio(baseline.score(network, tolerance=None, batch_size=2))
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([1.0, 1.0, 1.0])
    assert (ratio.tokens, ratio.windows) == (4 * 15, 4)


def test_the_untouched_model_is_scored_once(tmp_path: Path) -> None:
    network, chosen = tiny.model("llama"), windows(6)
    journal = Journal(tmp_path / "journal", "base")
    few = untouched_nll(network, chosen.tokens[:4].split(2), journal)
    network.model.layers[0].mlp.up_proj.weight.zero_()  # what is scored now is not what was kept
    more = untouched_nll(network, chosen.tokens.split(2), journal)
    assert np.array_equal(more[:4], few)
    assert more[4:] == pytest.approx(np.concatenate(list(window_nll(network, chosen.tokens[4:]))))


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Baseline(windows(5), np.random.default_rng(0).normal(30, 3, size=5))
    written.write(tmp_path)
    read = Baseline.read(tmp_path)
    assert torch.equal(read.windows.tokens, written.windows.tokens)
    assert torch.equal(read.windows.articles, written.windows.articles)
    assert np.array_equal(read.nll, written.nll)
    assert read.perplexity == written.perplexity
    assert read.perplexity.value == pytest.approx(np.exp(written.nll.sum() / (5 * 15)))
    assert read.perplexity.low < read.perplexity.value < read.perplexity.high


def test_windows_of_one_article_give_no_interval() -> None:
    baseline = Baseline(Windows(windows(4).tokens, torch.tensor([0, 0, 1, 2])), np.zeros(4))
    with pytest.raises(PermeationError, match=r"there are 2 windows of 16 tokens to measure on, from 1 articles"):
        baseline.first(2)
    assert estimate(np.ones(6), np.zeros(6, dtype=int), 100).high == np.inf


def test_with_a_window_an_article_the_interval_is_students() -> None:
    nll, baseline = np.random.default_rng(0).normal(300, 40, size=(2, 9))
    ratio = estimate(nll - baseline, np.arange(9), 100)
    low, high = stats.ttest_rel(nll / 100, baseline / 100).confidence_interval(0.95)
    expected = np.exp([(nll - baseline).mean() / 100, low, high])
    np.testing.assert_allclose([ratio.value, ratio.low, ratio.high], expected)
    assert (ratio.tokens, ratio.windows) == (900, 9)


def test_windows_of_one_article_count_as_one_sample() -> None:
    """Each article's windows alike: as if there were one window an article, however many there are."""
    nll = np.random.default_rng(0).normal(300, 40, size=6)
    once = estimate(nll, np.arange(6), 100)
    often = estimate(nll.repeat(5), np.arange(6).repeat(5), 100)
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))
    naive = estimate(nll.repeat(5), np.arange(30), 100)
    assert naive.high - naive.low < (often.high - often.low) / 2


@pytest.mark.parametrize("article", [1, 4])
def test_the_interval_covers_the_true_ratio_in_95_of_100_samples(article: int) -> None:
    """Also where the windows of an article have a difference in common."""
    rng = np.random.default_rng(0)
    articles = np.arange(12).repeat(article)
    hits = 0
    for _ in range(2000):
        difference = rng.normal(0.05, 0.02, size=12)[articles] + rng.normal(0, 0.02, size=len(articles))
        ratio = estimate(difference, articles, 1)
        hits += ratio.low < np.exp(0.05) < ratio.high
    assert 0.94 < hits / 2000 < 0.96


def test_the_interval_is_looked_at_seldom() -> None:
    assert look_schedule(3) == [3]
    assert look_schedule(32) == [3, 6, 9, 12, 18, 24, 32]
    assert look_schedule(40) == [3, 6, 9, 12, 18, 24, 36, 40]


def test_a_comparison_is_settled_by_the_tolerance_or_a_fifth_of_the_harm() -> None:
    near, far = Estimate(1.05, 1.0395, 1.0605, 800, 8), Estimate(130.0, 2.0, 254.0, 800, 8)
    assert near.settled(0.0101)
    assert not near.settled(0.0099)  # log 1.05 / 5 is 0.0098
    assert far.settled(0.01)  # log 130 / 5 is 0.97
    assert not Estimate(130.0, 2.0, 258.0, 800, 8).settled(0.01)
    assert Estimate(130.0, 2.1, 900.0, 300, 3).settled(0.01)  # of no use, however bad it is
    # At the first look a tenth of it.
    assert not Estimate(1.05, 1.0395, 1.0605, 300, 3).settled(0.0101)
    assert Estimate(1.05, 1.04895, 1.05105, 300, 3).settled(0.0101)


def stop(differences: np.ndarray, tolerance: float) -> tuple[Estimate, int]:
    """Where a comparison with these differences stops, and after how many windows."""
    for look in look_schedule(len(differences)):
        ratio = estimate(differences[:look], np.arange(look), 1)
        if ratio.settled(tolerance):
            break
    return ratio, look


@pytest.mark.parametrize("draw", ["normal", "skewed"])
@pytest.mark.parametrize(
    ("truth", "spread", "most"),
    [(1.002, 0.01, 17), (1.05, 0.04, 128), (1.3, 0.08, 17), (3.0, 0.3, 20), (400.0, 0.6, 12)],
)
def test_stopping_early_keeps_the_coverage(draw: str, truth: float, spread: float, most: float) -> None:
    """`spread` is of a window's difference, in nats, as on real text; `most` bounds the mean number of windows.

    In 4,000 runs 91 to 94 % cover.
    """
    rng, found = np.random.default_rng(0), []
    for _ in range(1500):
        noise = rng.normal(size=256) if draw == "normal" else rng.gamma(4.0, 0.5, size=256) - 2
        found.append(stop(np.log(truth) + spread * noise, 0.01))
    assert np.mean([look for _, look in found]) < most
    assert np.mean([ratio.low < truth < ratio.high for ratio, _ in found]) > 0.9


def test_windows_are_added_until_the_interval_is_narrow_enough() -> None:
    network, chosen = tiny.model("llama"), windows(32)
    nll = np.concatenate(list(window_nll(network, chosen.tokens)))
    baseline = Baseline(chosen, nll - 15 * np.log(1.05) * (1 + 0.1 * np.random.default_rng(0).normal(size=32)))
    scored = baseline.score(network, tolerance=0.01)
    ratio = baseline.ratio(scored)
    assert (ratio.tokens, ratio.windows) == (6 * 15, 6)
    assert ratio.value == pytest.approx(1.05, abs=1e-2)
    np.testing.assert_allclose(scored, nll[:6], rtol=1e-6)

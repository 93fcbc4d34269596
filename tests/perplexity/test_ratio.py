"""A changed model against the untouched one: the ratio, its interval, and when to stop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from permeation.config import Config
from permeation.frame.errors import PermeationError
from permeation.frame.journal import Journal
from permeation.perplexity.nll import window_nll
from permeation.perplexity.ratio import Baseline, Estimate, estimate, look_schedule, untouched_nll
from permeation.perplexity.settings import Perplexity
from permeation.perplexity.windows import Windows
from tests.support import tiny


@pytest.fixture
def settings(config: Config) -> Perplexity:
    return replace(config.perplexity, dtype="float32", tolerance=None)


def windows(count: int) -> Windows:
    tokens = torch.randint(9, (count, 16), generator=torch.Generator().manual_seed(0))
    return Windows(tokens, torch.arange(count))


def test_the_ratio_of_a_model_to_itself_is_one(settings: Perplexity, tmp_path: Path) -> None:
    network, chosen, told = tiny.model("llama"), windows(4), list[int]()
    settings = replace(settings, batch_size=2)
    baseline = Baseline(chosen, untouched_nll(network, chosen, settings, Journal(tmp_path, "base"), told.append))
    ratio = baseline.ratio(baseline.score(network, settings, told.append))
    assert ratio == Estimate(1.0, 1.0, 1.0, tokens=4 * 15, windows=4)
    assert told == [32, 32, 32, 32]


def test_the_untouched_model_is_scored_once(settings: Perplexity, tmp_path: Path) -> None:
    network, chosen = tiny.model("llama"), windows(6)
    settings = replace(settings, batch_size=2)
    journal = Journal(tmp_path, "base")
    few = untouched_nll(network, Windows(chosen.tokens[:4], chosen.articles[:4]), settings, journal, lambda _: None)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    network.model.layers[0].mlp.up_proj.weight.zero_()  # what is scored now is not what was kept
    more = untouched_nll(network, chosen, settings, journal, lambda _: None)
    assert np.array_equal(more[:4], few)
    assert len(kept) == 2
    assert all(path.stat().st_mtime_ns == kept[path] for path in kept)
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


@pytest.mark.parametrize("articles", [torch.zeros(4, dtype=torch.long), torch.arange(1)])
def test_what_gives_no_interval_is_an_error(articles: torch.Tensor) -> None:
    count = len(articles)
    with pytest.raises(PermeationError, match=f"give {count} windows of 16 tokens to measure on, from 1 articles"):
        Baseline(Windows(windows(count).tokens, articles), np.zeros(count))


def test_of_one_article_there_is_a_mean_and_no_interval() -> None:
    baseline = Baseline(Windows(windows(4).tokens, torch.tensor([0, 0, 1, 2])), np.zeros(4))
    assert baseline.mean_per_token("kl", np.array([15.0, 45.0])) == {"kl": 2.0, "kl_low": None, "kl_high": None}
    assert None not in baseline.mean_per_token("kl", np.array([15.0, 45.0, 30.0])).values()
    with pytest.raises(PermeationError, match=r"the first 2 windows are of one article .* \(locate.windows\)"):
        baseline.first(2)


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
    assert estimate(nll, np.zeros(6, dtype=int), 100).high == np.inf


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


def test_without_a_tolerance_there_is_one_look_and_with_one_few() -> None:
    assert look_schedule(20, None) == [20]
    assert look_schedule(3, 0.01) == [3]
    assert look_schedule(32, 0.01) == [3, 6, 9, 12, 18, 24, 32]
    assert look_schedule(40, 0.01) == [3, 6, 9, 12, 18, 24, 36, 40]


def rule(settings: Perplexity, **changed: float | None) -> Perplexity:
    """The rule of stopping, ± 1 % and nothing else unless it is said."""
    return replace(settings, **{"tolerance": 0.01, "relative_tolerance": 0.0, "hopeless": None, **changed})


def test_beyond_a_ratio_of_1_05_the_tolerance_grows_with_the_harm(settings: Perplexity) -> None:
    near, far = Estimate(1.05, 1.0395, 1.0605, 800, 8), Estimate(130.0, 60.0, 290.0, 800, 8)
    assert near.settled(rule(settings, tolerance=0.0101))
    assert not near.settled(rule(settings, tolerance=0.0099, relative_tolerance=0.2))
    assert far.settled(rule(settings, relative_tolerance=0.2))
    assert not far.settled(rule(settings, relative_tolerance=0.1))
    assert not far.settled(rule(settings, tolerance=None, hopeless=2.0))


def test_what_is_surely_hopeless_ends_at_the_first_look_and_what_is_precise_later(settings: Perplexity) -> None:
    assert Estimate(5.0, 2.1, 12.0, 300, 3).settled(rule(settings, hopeless=2.0))
    assert not Estimate(5.0, 1.9, 13.0, 300, 3).settled(rule(settings, hopeless=2.0))
    assert not Estimate(1.05, 1.045, 1.055, 300, 3).settled(rule(settings))
    assert Estimate(1.05, 1.045, 1.055, 600, 6).settled(rule(settings))
    assert Estimate(1.0, 1.0, 1.0, 300, 3).settled(rule(settings))


def stop(differences: np.ndarray, settings: Perplexity) -> tuple[Estimate, int]:
    """Where a comparison with these differences stops, and after how many windows."""
    for look in look_schedule(len(differences), settings.tolerance):
        ratio = estimate(differences[:look], np.arange(look), 1)
        if ratio.settled(settings):
            break
    return ratio, look


def noise(draw: str, rng: np.random.Generator) -> np.ndarray:
    """Of mean 0 and standard deviation 1, for 256 windows."""
    return rng.normal(size=256) if draw == "normal" else rng.gamma(4.0, 0.5, size=256) - 2


@pytest.mark.parametrize("draw", ["normal", "skewed"])
def test_stopping_early_keeps_the_coverage(draw: str, settings: Perplexity) -> None:
    """Differences as on real text, ± 0.04 nats a window around log 1.05, stopped at ± 1 % or after 256 windows.

    In 6,000 runs 92.9 % (skewed) to 94.7 % (normal) cover.
    """
    rng, runs = np.random.default_rng(0), 1500
    found = [stop(np.log(1.05) + 0.04 * noise(draw, rng), rule(settings)) for _ in range(runs)]
    # (1.96 · 0.04 / 0.01)² = 61 are needed
    assert 64 <= np.mean([look for _, look in found]) <= 128
    assert sum(ratio.low < 1.05 < ratio.high for ratio, _ in found) / runs > 0.92


@pytest.mark.parametrize("draw", ["normal", "skewed"])
@pytest.mark.parametrize(("truth", "spread"), [(1.002, 0.01), (1.05, 0.04), (1.3, 0.08), (3.0, 0.3), (400.0, 0.6)])
def test_stopping_by_the_default_rule_keeps_the_coverage(
    draw: str, truth: float, spread: float, settings: Perplexity
) -> None:
    """`spread` is of a window's difference, in nats, as on real text. In 6,000 runs 91 to 95 % cover."""
    rng, runs = np.random.default_rng(0), 1500
    by_default = rule(settings, relative_tolerance=0.2, hopeless=2.0)
    found = [stop(np.log(truth) + spread * noise(draw, rng), by_default) for _ in range(runs)]
    assert np.mean([look for _, look in found]) < {400.0: 5, 3.0: 11, 1.3: 17, 1.05: 128, 1.002: 17}[truth]
    assert sum(ratio.low < truth < ratio.high for ratio, _ in found) / runs > 0.91


def test_windows_are_added_until_the_interval_is_narrow_enough(settings: Perplexity) -> None:
    network, chosen = tiny.model("llama"), windows(32)
    nll = np.concatenate(list(window_nll(network, chosen.tokens)))
    untouched = nll - 15 * np.log(1.05) * (1 + 0.1 * np.random.default_rng(0).normal(size=32))
    told: list[int] = []
    baseline = Baseline(chosen, untouched)
    scored = baseline.score(network, rule(settings), told.append)
    ratio = baseline.ratio(scored)
    assert (ratio.tokens, ratio.windows) == (6 * 15, 6)
    assert sum(told) == 6 * 16
    assert ratio.value == pytest.approx(1.05, abs=1e-2)

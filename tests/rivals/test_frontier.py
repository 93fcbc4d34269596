"""Where a curve meets the bearable ratio, how sure that is, and the law that foretells a run."""

from typing import Any

import numpy as np
import pytest
import torch

from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Windows
from permeation.rivals.frontier import (
    FORM,
    Law,
    _meeting,
    beaten,
    bits_needed,
    crossing,
    on_frontier,
    pairs,
    summary,
    tokens_for_kl,
)
from permeation.weights.replace import Measured

BITS, HARM = np.array([3.0, 4.0, 8.0]), np.array([0.2, 0.05, 0.001])


@pytest.fixture
def baseline() -> Baseline:
    return Baseline(Windows(torch.zeros(20, 11, dtype=torch.long), torch.arange(20)), np.full(20, 30.0))


def run(baseline: Baseline, method: str, bits: float, log_ratio: float, error: float, noise: float = 0.02) -> Measured:
    """A run whose mean log ratio is exact, with noise between windows."""
    draws = np.random.default_rng(int(1000 * bits)).normal(size=20)
    per_token = log_ratio + noise * (draws - draws.mean())
    nll = baseline.nll + 10 * per_token
    found = baseline.ratio(nll)
    row: dict[str, Any] = {"method": method, "size": int(bits), "bits": bits, f"error_{FORM}": error}
    row |= {f"error_{form}": error for form in ("gram", "circuit", "score")}
    row |= {"ratio": found.value, "low": found.low, "high": found.high}
    return Measured(row, nll, kl=np.abs(10 * per_token), agreeing=np.full(20, 9.0))


def test_a_curve_is_met_between_the_runs_beside_it() -> None:
    target = np.log(1.05)
    share = np.log(0.05 / target) / np.log(0.05 / 0.001)
    assert crossing(BITS, HARM) == pytest.approx(4 + 4 * share)
    order = [2, 0, 1]
    assert crossing(BITS[order], HARM[order]) == crossing(BITS, HARM)
    assert crossing(BITS[:2], HARM[:2]) is None
    assert crossing(BITS[2:], HARM[2:]) is None


def test_a_larger_size_that_lost_more_by_chance_counts_with_its_neighbour() -> None:
    rough = crossing(np.array([3.0, 4.0, 5.0, 8.0]), np.array([0.2, 0.060, 0.080, 0.001]))
    even = crossing(np.array([3.0, 4.0, 5.0, 8.0]), np.array([0.2, *[np.sqrt(0.060 * 0.080)] * 2, 0.001]))
    assert rough == pytest.approx(even)


def test_a_resample_whose_runs_all_lose_more_counts_as_the_largest_size(baseline: Baseline) -> None:
    """One run is just below; made falling with the larger ones, none is."""
    runs = [run(baseline, "m", bits, harm, 0.1, 1e-9) for bits, harm in ((3.0, 0.2), (4.0, 0.04), (8.0, 0.048))]
    assert bits_needed(runs, baseline, seed=0).high < 8
    assert crossing(np.array([3.0, 4.0, 8.0]), np.array([0.2, 0.04, 0.06])) is None
    assert _meeting(np.array([3.0, 4.0, 8.0]), np.array([0.2, 0.04, 0.06])) == np.inf
    assert _meeting(np.array([3.0, 4.0]), np.array([0.01, 0.001])) == -np.inf


def test_the_interval_of_bits_holds_the_truth_and_shrinks_with_the_noise(baseline: Baseline) -> None:
    def found(noise: float) -> Any:
        runs = [run(baseline, "m", bits, harm, 0.1, noise) for bits, harm in zip(BITS, HARM, strict=True)]
        return bits_needed(runs, baseline, seed=0)

    wide, narrow = found(0.02), found(0.002)
    assert wide.value == pytest.approx(narrow.value)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert bits_needed([], baseline, 0).value is None


def test_a_planted_law_is_found_and_foretells(baseline: Baseline) -> None:
    errors = (0.1, 0.2, 0.3)
    rows = [run(baseline, "m", 4, 2.5 * error**2, error, 1e-4).row for error in errors]
    law = Law.fit(rows)
    assert law.c == pytest.approx(2.5)
    assert law.ratio(0.4) == pytest.approx(np.exp(2.5 * 0.16))
    twice = [run(baseline, "m", 4, 5.0 * error**2, error, 1e-4).row for error in errors]
    assert law.held_out_factor(twice) == pytest.approx(2.0)
    assert Law.fit(rows[:1]).ratio(0.4) is None
    assert Law.fit(rows[:1]).held_out_factor(twice) is None
    assert law.held_out_factor([]) is None


def test_a_run_is_beaten_by_one_in_no_more_bits_that_loses_far_less() -> None:
    rows = [{"bits": 4.0, "ratio": np.exp(0.01)}]
    assert beaten(4.0, np.exp(0.031), rows, 3.0)
    assert not beaten(4.0, np.exp(0.029), rows, 3.0)
    assert not beaten(3.9, np.exp(0.031), rows, 3.0)
    assert on_frontier([{"bits": 3, "ratio": 2}, {"bits": 4, "ratio": 1.5}, {"bits": 5, "ratio": 1.6}]) == [1, 1, 0]


def test_rivals_are_compared_in_pairs(baseline: Baseline) -> None:
    """What all of them have in common between windows cancels."""
    runs = [run(baseline, name, 4.0, harm, 0.1) for name, harm in (("a", 0.02), ("b", 0.05))]
    first, second = pairs(runs, [3.0, 4.0], baseline)
    assert (first["method"], second["method"]) == ("a", "b")
    assert (first["ratio"], first["low"], first["high"]) == (1, 1, 1)
    assert second["ratio"] == pytest.approx(np.exp(0.03))
    assert second["high"] - second["low"] < 1e-9
    assert runs[1].row["high"] - runs[1].row["low"] > 0.01


def test_the_summary_names_the_best_and_what_was_left_out(baseline: Baseline) -> None:
    curve = list(zip(BITS, HARM, (0.3, 0.15, 0.02), strict=True))
    a = [run(baseline, "a", bits, harm, error) for bits, harm, error in curve]
    b = [run(baseline, "b", bits + 1, harm, error) for bits, harm, error in curve[::2]]
    left_out = Measured(
        {"method": "b", "size": 5, "bits": 5.0, "ratio": None, "low": None, "foretold": np.exp(0.06)}, np.empty(0)
    )
    never = Measured({"method": "c", "size": None, "bits": None, "ratio": None, "low": None}, np.empty(0))
    rows = [each.row for each in a]
    found = summary([*a, left_out, *b, never], Law.fit(rows), [each.row for each in b], baseline, seed=0)
    assert found["best"] == "a"
    assert found["best_bits"] == found["bits_at_1_05"]["a"] < found["bits_at_1_05"]["b"]
    assert found["bits_at_1_05"]["c"] is None
    assert (found["runs"], found["left_out"]) == (5, 1)
    assert 5 < found["bits_at_1_05_foretold"]["b"] < found["bits_at_1_05"]["b"]
    assert found["bits_at_1_05_foretold"]["c"] is None


def test_kl_needs_fewer_tokens_where_it_varies_less(baseline: Baseline) -> None:
    steady = run(baseline, "m", 4, 0.05, 0.1)
    steady = Measured(steady.row, steady.nll, kl=0.5 + 0.1 * (steady.nll - baseline.nll), agreeing=steady.agreeing)
    assert 0 < (tokens_for_kl([steady], baseline) or 0) < 0.1
    assert tokens_for_kl([run(baseline, "m", 4, -0.05, 0.1)], baseline) is None

"""Bits at 1.05: the smallest size that is enough is found in few runs, with its interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from permeation.rivals.frontier import (
    CLOSE,
    STEPS,
    bits_needed,
    measure_method,
    next_size,
    on_frontier,
    pareto,
    summary,
)
from permeation.weights.heads import Heads
from permeation.weights.replace import Measured


class Planted:
    """Sizes of 1/64 bit each, and a perplexity ratio that falls with them: 1 + e^−b."""

    smallest, largest = 64, 1024

    def stored_bits(self, size: int) -> int:
        return size

    def apply(self, size: int) -> Heads:
        raise NotImplementedError


class Whole(Planted):
    """Sizes of whole bits, 2 to 8, as integers have."""

    smallest, largest = 2, 8

    def stored_bits(self, size: int) -> int:
        return 64 * size


def row(size: int, bits: float, ratio: float, method: str = "m") -> dict[str, Any]:
    interval = {"ratio": ratio, "low": ratio - 0.01, "high": ratio + 0.01}
    return {"method": method, "size": size, "bits": bits, **interval, "tokens": 100, "windows": 10}


def measured(rival: Planted, budgets: Sequence[float]) -> list[dict[str, Any]]:
    def measure(sizes: list[int]) -> list[Measured]:
        bits = [rival.stored_bits(size) / 64 for size in sizes]
        return [Measured(row(size, b, 1 + float(np.exp(-b))), np.ones(1)) for size, b in zip(sizes, bits, strict=True)]

    return [run.row for run in measure_method(rival, [64.0 * budget for budget in budgets], measure)]


@pytest.mark.parametrize(
    ("budgets", "close"), [([2, 3.5], CLOSE), ([3.3, 8], 0.3), ([2, 6], 0.25), ([2.9, 3.05], 0.07)]
)
def test_the_smallest_size_that_is_enough_is_found_by_bisection(budgets: Sequence[float], close: float) -> None:
    rows = measured(Planted(), budgets)
    value = bits_needed(rows)["value"]
    assert value is not None
    assert 0 <= value - -np.log(0.05) <= close + 1 / 64
    assert len(rows) <= len(budgets) + STEPS
    assert [each["size"] for each in rows] == sorted({each["size"] for each in rows})


def test_without_sizes_in_between_it_is_the_smallest_that_is_enough() -> None:
    for budgets in ([2, 8], [3, 4, 8], [4, 8]):
        assert bits_needed(measured(Whole(), budgets))["value"] == 3.0
    assert next_size([row(3, 3.0, 1.06), row(4, 4.0, 1.04)], 2) is None


def test_nothing_more_is_measured_where_it_cannot_help() -> None:
    assert next_size([row(64, 1.0, 1.5), row(128, 2.0, 1.2)], 64) is None  # no size is enough
    assert next_size([row(64, 1.0, 1.04), row(128, 2.0, 1.06)], 64) is None  # the smallest is
    assert bits_needed([row(64, 1.0, 1.5)]) == {"value": None, "low": None, "high": None}


def test_the_interval_ends_at_sizes_that_may_be_and_that_surely_are_enough() -> None:
    rows = [row(i, float(i), ratio) for i, ratio in enumerate((1.07, 1.055, 1.049, 1.045, 1.035))]
    assert bits_needed(rows) == {"value": 2.0, "low": 1.0, "high": 4.0}
    assert bits_needed(rows[:4])["high"] is None


def test_the_models_own_file_is_a_point_of_the_frontier() -> None:
    rows = [row(3, 3.0, 1.1), row(4, 4.0, 1.02), row(6, 6.0, 1.001), row(8, 8.0, 0.999)]
    assert on_frontier(rows) == [True, True, True, True]
    lines = pareto([*rows, row(0, 1.0, 1.5) | {"ratio": None}], 5.0, 1000, 100)
    assert [line["size"] for line in lines if not line["frontier"]] == [6]
    file = {"method": "own_file", "size": None, "bits": 5.0, "ratio": 1, "low": 1, "high": 1, "frontier": True}
    assert lines[-1] == file | {"tokens": 1000, "windows": 100}
    assert len(pareto(rows, None, 1000, 100)) == 4


def test_the_summary_names_the_method_that_needs_the_fewest_bits() -> None:
    refused = {"method": "c", "size": None, "bits": None, "ratio": None, "low": None, "high": None}
    a, b = [row(3, 3.5, 1.06, "a"), row(4, 4.5, 1.02, "a")], [row(4, 4.25, 1.03, "b")]
    found = summary([*a, *b, refused])
    assert (found["best"], found["best_bits"], found["best_bits_low"], found["best_bits_high"]) == ("b", *[4.25] * 3)
    assert found["bits_at_1_05"] == {"a": 4.5, "b": 4.25, "c": None}
    assert found["runs"] == 3
    nothing = summary([refused])
    assert (nothing["best"], nothing["best_bits"]) == (None, None)

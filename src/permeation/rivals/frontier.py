"""How few bits a method needs: the smallest size whose perplexity ratio is at most 1.05, found by bisection.

    enough = the smallest measured size with ratio ≤ 1.05;  short = the largest measured size below it
    measure (short + enough) // 2, at most STEPS times, until the two are neighbours or CLOSE bits a number apart

docs/weights.md, The frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from permeation.perplexity.ratio import KEPT_RATIO
from permeation.rivals.base import Rival, sizes_near
from permeation.weights.replace import Measured

CLOSE = 0.1  # bits a number
STEPS = 4  # of a wide gap, a sixteenth is left: the intervals of the ratios there are wider than that

SIZE = itemgetter("size")
Rows = Sequence[Mapping[str, Any]]


def measure_method(
    rival: Rival, budgets: Sequence[float], measure: Callable[[list[int]], list[Measured]]
) -> list[Measured]:
    """Measure the sizes nearest to the budgets, in bits, then those that the bisection asks for; by rising size."""
    runs = measure(sizes_near(rival, budgets))
    for _ in range(STEPS):
        size = next_size([run.row for run in runs], rival.smallest)
        runs += [] if size is None else measure([size])
    return sorted(runs, key=lambda run: run.row["size"])


def next_size(rows: Rows, smallest: int) -> int | None:
    """The size to measure next; None where no measured size is enough, or the smallest that is enough is known."""
    enough = min((row for row in rows if row["ratio"] <= KEPT_RATIO), key=SIZE, default=None)
    if enough is None or enough["size"] == smallest:
        return None
    short = max((row for row in rows if row["size"] < enough["size"]), key=SIZE, default=None)
    if short is None:
        return smallest
    neighbours = enough["size"] - short["size"] == 1
    return None if neighbours or enough["bits"] - short["bits"] <= CLOSE else (short["size"] + enough["size"]) // 2


def bits_needed(rows: Rows) -> dict[str, float | None]:
    """The fewest measured bits a number whose ratio (`value`), or an end of whose interval, is at most 1.05.

    `low`: a size that may be enough, by the low end of its ratio's interval. `high`: one that surely is, by the high
    end. None where no measured size is.
    """
    ends = {"value": "ratio", "low": "low", "high": "high"}
    return {
        name: min((row["bits"] for row in rows if row["ratio"] is not None and row[end] <= KEPT_RATIO), default=None)
        for name, end in ends.items()
    }


def on_frontier(rows: Rows) -> list[bool]:
    """For each row: no other takes at most as many bits and has a smaller ratio."""
    return [not any(other["bits"] <= row["bits"] and other["ratio"] < row["ratio"] for other in rows) for row in rows]


def pareto(rows: Rows, own_file: float | None, tokens: int, windows: int) -> list[dict[str, Any]]:
    """The measured rows as they are charted, and whether each is on the frontier.

    own_file: bits a number that the file the model came from spends on W_Q and W_K. It is one more row: it gives the
    model back, on all the windows there are.
    """
    columns = ("method", "size", "bits", "ratio", "low", "high", "tokens", "windows")
    lines = [{column: row[column] for column in columns} for row in rows if row["ratio"] is not None]
    if own_file is not None:
        lines.append(dict(zip(columns, ("own_file", None, own_file, 1.0, 1.0, 1.0, tokens, windows), strict=True)))
    return [{**line, "frontier": on} for line, on in zip(lines, on_frontier(lines), strict=True)]


def summary(rows: Rows) -> dict[str, Any]:
    """Bits at 1.05 of every method with their interval, the method that needs the fewest, and how many runs it took."""
    methods = dict.fromkeys(row["method"] for row in rows)
    needed = {method: bits_needed([row for row in rows if row["method"] == method]) for method in methods}
    enough = {method: bits["value"] for method, bits in needed.items() if bits["value"] is not None}
    best = min(enough, key=enough.__getitem__, default=None)
    of_best = needed[best] if best else dict.fromkeys(("value", "low", "high"))
    ends = {"": "value", "_low": "low", "_high": "high"}
    return {
        "best": best,
        **{f"best_bits{end}": of_best[name] for end, name in ends.items()},
        **{f"bits_at_1_05{end}": {method: bits[name] for method, bits in needed.items()} for end, name in ends.items()},
        "runs": sum(row["ratio"] is not None for row in rows),
    }

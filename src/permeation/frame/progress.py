"""How far a loop is and how long it still takes: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# Seconds between two lines where there is no terminal. A loop that is done sooner says nothing there.
EVERY = 20.0
# What is still to do counts in full. A comparison that is precise enough early takes less, hence "at most".
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {percentage:.0f} %, {elapsed} so far, at most about {remaining} left"
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed} so far, at most about {remaining} left, {rate_fmt}]"


class _Log:
    """Takes what tqdm writes for a terminal, and puts each state on stderr as a line of its own."""

    def write(self, state: str) -> None:
        if state.strip():
            sys.stderr.write(f"{state.strip()}\n")

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def bar(total: int, desc: str, unit: str = "it") -> Iterator[Any]:
    """A loop over `total` units on stderr, with the time so far and at most left; `.update(n)` says what is done.

    TQDM_DISABLE silences the bars that libraries draw (stages/run sets it where there is no terminal), not these.
    """
    options: dict[str, Any] = {
        "total": total,
        "desc": desc,
        "unit": unit,
        "unit_scale": total >= 10_000,
        "bar_format": BAR,
    }
    if not sys.stderr.isatty():
        options |= {"file": _Log(), "delay": EVERY, "mininterval": EVERY, "bar_format": LINE}
    with tqdm(**options, disable=False) as shown:
        yield shown


def each(items: Collection[T], desc: str, unit: str = "it") -> Iterator[T]:
    """The items one by one, with a `bar` over them."""
    with bar(len(items), desc, unit) as shown:
        for item in items:
            yield item
            shown.update()

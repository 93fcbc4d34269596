"""How far a loop is and how long it still takes: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# Seconds between two lines where there is no terminal. A loop that is done sooner says nothing there.
EVERY = 20.0
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {percentage:.0f} %, {elapsed} so far, about {remaining} left"


class _Lines(tqdm):  # type: ignore[misc]  # tqdm brings no types
    """A tqdm whose states stand one below the other, as a log file needs them."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        def say(state: str) -> None:
            if state.strip():
                file.write(f"{state.strip()}\n")
                file.flush()

        return say


@contextmanager
def bar(total: int, desc: str, unit: str = "it") -> Iterator[Any]:
    """A loop over `total` units on stderr, with the time so far and the time left; `.update(n)` says what is done.

    TQDM_DISABLE silences the bars that libraries draw (stages/run sets it where there is no terminal), not these.
    """
    options = {"total": total, "desc": desc, "unit": unit, "unit_scale": total >= 10_000, "disable": False}
    if sys.stderr.isatty():  # pragma: no cover (the tests have no terminal)
        with tqdm(**options) as shown:
            yield shown
    else:
        with _Lines(**options, delay=EVERY, mininterval=EVERY, bar_format=LINE) as shown:
            yield shown


def each(items: Collection[T], desc: str, unit: str = "it") -> Iterator[T]:
    """The items one by one, with a `bar` over them."""
    with bar(len(items), desc, unit) as shown:
        for item in items:
            yield item
            shown.update()

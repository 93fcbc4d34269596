"""How far a loop is and how long it still takes: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

EVERY = 20.0  # seconds between two lines where there is no terminal; a loop that is done sooner says nothing there
LINE = "{desc}: {n_fmt} of {total_fmt}, {percentage:.0f} %, {elapsed} so far, about {remaining} left"


class _Log:
    """Takes what tqdm writes for a terminal, and puts each state on stderr as a line of its own."""

    def write(self, state: str) -> None:
        if state.strip():
            sys.stderr.write(f"{state.strip()}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def each(items: Iterable[T], desc: str, total: int) -> Iterator[T]:
    """The items one by one, with a bar over `total` of them on stderr.

    TQDM_DISABLE silences the bars of libraries (stages/run sets it where there is no terminal), not this one.
    """
    options: dict[str, Any] = {"total": total, "desc": desc, "disable": False}
    if not sys.stderr.isatty():
        options |= {"file": _Log(), "delay": EVERY, "mininterval": EVERY, "bar_format": LINE}
    yield from tqdm(items, **options)

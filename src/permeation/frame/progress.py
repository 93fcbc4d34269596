"""How far a loop is and how long it still takes: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

EVERY = 20.0  # seconds between two lines where there is no terminal; a loop that is done sooner says nothing there
LINE = "{desc}: {n_fmt} of {total_fmt}, {percentage:.0f} %, {elapsed} so far, about {remaining} left\n"


def each(items: Iterable[T], desc: str, total: int) -> Iterator[T]:
    """The items one by one, with a bar over `total` of them on stderr.

    TQDM_DISABLE silences the bars of libraries (stages/run sets it where there is no terminal), not this one.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc, total, disable=False)
        return
    start = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if (now := time.monotonic()) - said >= EVERY:
            said = now
            sys.stderr.write(tqdm.format_meter(done, total, now - start, prefix=desc, bar_format=LINE))

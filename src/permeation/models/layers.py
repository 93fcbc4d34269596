"""Which of a model's layers are looked at where not all of them are."""

from __future__ import annotations

from typing import Literal

import numpy as np


def spread_layers(count: int | Literal["all"], first: int, last: int) -> list[int]:
    """`count` layers, evenly spread from `first` to `last`; all of them for `all`, or where there are no more."""
    every = range(first, last + 1)
    return list(every) if count == "all" else sorted({round(x) for x in np.linspace(first, last, int(count))})

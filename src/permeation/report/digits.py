"""Published numbers have as many digits as all processors agree on, and files in git change only where numbers do.

Processors differ in the last digits of float32. Numbers are therefore published with five significant digits. That
alone is not enough: two numbers on the two sides of a rounding step differ however close they are. So a file stays as
it is while its numbers are those of the file before, to what processors agree on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json

DIGITS, DECIMALS = 5, 6  # significant digits of a published number, and how many may stand behind its point
# What processors agree on: numbers to a relative 1e-4; those above 10, where harm has grown, to 1e-3; small numbers,
# which are differences of larger ones, to an absolute 1e-5.
AGREE, AGREE_LARGE, LARGE, SMALL = 1e-4, 1e-3, 10.0, 1e-5


def rounded(value: Any) -> Any:
    """A value of JSON with its floats as they are published; a small number loses what is below 1e-6."""
    if isinstance(value, float):
        return round(float(f"{value:.{DIGITS}g}"), DECIMALS)
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def settled(path: Path, value: Any) -> Any:
    """`value` as it is published at `path`: what stands there already, if the two agree to what processors agree on."""
    new = rounded(value)
    try:
        old = read_json(path)
    except PermeationError:
        return new
    return old if same(old, new) else new


def same(old: Any, new: Any) -> bool:
    """Whether two values of JSON are alike, floats to a relative 1e-4 (above 10 to 1e-3), and keys in one order."""
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(same(old[key], new[key]) for key in new)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    if isinstance(old, float) and isinstance(new, float):
        agree = AGREE_LARGE if abs(new) > LARGE else AGREE
        return math.isclose(old, new, rel_tol=agree, abs_tol=SMALL)
    return type(old) is type(new) and old == new

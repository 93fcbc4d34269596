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
# What hangs on single tokens, or on where a flat curve crosses a line, has three digits that processors agree on, give
# or take one of the last: numbers of these keys, and all numbers in these groups.
FEW_DIGITS, AGREE_FEW = 3, 1e-2
ENDS = ("", "_low", "_high")
FEW = {f"{name}{end}" for name in ("kl", "agreement", "best_bits") for end in ENDS}
FEW |= {"half_width_near_1_05", "tokens_for_kl"}
FEW_GROUPS = {f"bits_at_1_05{end}" for end in (*ENDS, "_foretold")} | {"law"}


def has_few_digits(key: str, value: Any) -> bool:
    """Whether processors agree on three digits only of the value that has this key."""
    return key in (FEW_GROUPS if isinstance(value, Mapping) else FEW)


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """A value of JSON with its floats as they are published; a small number loses what is below 1e-6."""
    if isinstance(value, float):
        return round(float(f"{value:.{digits}g}"), DECIMALS)
    if isinstance(value, Mapping):
        return {key: rounded(each, FEW_DIGITS if has_few_digits(key, each) else digits) for key, each in value.items()}
    return [rounded(each, digits) for each in value] if isinstance(value, list | tuple) else value


def settled(path: Path, value: Any) -> Any:
    """`value` as it is published at `path`: what stands there already, if the two agree to what processors agree on."""
    new = rounded(value)
    try:
        old = read_json(path)
    except PermeationError:
        return new
    return old if same(old, new) else new


def same(old: Any, new: Any, few: bool = False) -> bool:
    """Whether two values of JSON are alike: keys in one order, floats to a relative 1e-4 (above 10 to 1e-3).

    few: whether floats have three digits only, and are alike to a relative 1e-2.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(
            same(old[key], new[key], few or has_few_digits(key, new[key])) for key in new
        )
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(same(*each, few) for each in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, float):
        agree = AGREE_FEW if few else AGREE_LARGE if abs(new) > LARGE else AGREE
        return math.isclose(old, new, rel_tol=agree, abs_tol=SMALL)
    return type(old) is type(new) and old == new

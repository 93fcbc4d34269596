"""How perplexity is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from permeation.frame.checks import Settings, checked, choice, count_or, integer, number, optional

DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Perplexity(Settings):
    prefix = "perplexity."
    context: int = checked(integer(2))
    max_tokens: int | None = checked(optional(integer(2)))
    batch_size: int | Literal["auto"] = checked(count_or("auto"))
    tolerance: float | None = checked(optional(number(0.0)))
    relative_tolerance: float = checked(number(0.0, 1.0, or_equal=True))
    dtype: str = checked(choice(*DTYPES))

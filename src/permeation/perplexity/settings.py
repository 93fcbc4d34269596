"""How perplexity is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from permeation.frame.checks import Settings, checked, choice, count_or, integer, number, optional

DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Perplexity(Settings):
    prefix = "perplexity."
    context: int = checked(
        integer(2),
        "Tokens of a window. A longer one gives the model more context and a lower perplexity.",
    )
    max_tokens: int | None = checked(
        optional(integer(2)),
        "At most this much text, in windows spread over the corpus; null: all of it. More narrows the intervals.",
    )
    batch_size: int | Literal["auto"] = checked(
        count_or("auto"),
        "Windows that are scored at once; auto: what suits the device.",
    )
    tolerance: float | None = checked(
        optional(number(0.0)),
        "Stop after 8, 16, 32 … windows, once half of a ratio's 95 % interval is at most this share of the "
        "ratio; null: score all windows.",
    )
    relative_tolerance: float = checked(
        number(0.0, 1.0, or_equal=True),
        "Stop as well once half of the interval is at most this part of |log ratio| times the ratio, so that "
        "no time is spent on whether a ratio is 130 or 131; 0: never for this reason.",
    )
    dtype: str = checked(
        choice(*DTYPES),
        "Number format of the scoring: float32, bfloat16 (faster, less exact), or auto.",
    )

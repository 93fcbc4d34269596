"""How perplexity is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from permeation.frame.checks import Settings, checked, choice, count_or, integer, number, optional, reject

DTYPES = ("float32", "bfloat16")


def boolean_or_auto(key: str, value: Any) -> bool | Literal["auto"]:
    """true, false or auto."""
    if value != "auto" and not isinstance(value, bool):
        reject(key, value, "auto | true | false")
    return value


@dataclass(frozen=True)
class Perplexity(Settings):
    prefix = "perplexity."
    context: int = checked(
        integer(2),
        "Tokens of a window; windows do not overlap. A longer one gives the model more context and a lower perplexity.",
    )
    max_tokens: int | None = checked(
        optional(integer(2)),
        "Tokens to measure on, in whole windows spread over the text, none of them the moments'; null: the whole "
        "text. More narrow the intervals.",
    )
    prepend_bos: bool | Literal["auto"] = checked(
        boolean_or_auto,
        "Whether each window begins with the BOS token; auto: if the model's tokenizer adds one. Newer models are "
        "far off without theirs.",
    )
    tolerance: float | None = checked(
        optional(number(0.0)),
        "A comparison takes 3, 6, 9, 12, 18, 24 … windows, and ends once half of its ratio's 95 % interval is at most "
        "this share of the ratio; null: it takes all windows.",
    )
    hopeless: float | None = checked(
        optional(number(1.0)),
        "It ends, too, once the whole interval is above this ratio: such a model is of no use, however bad it is. "
        "null: never.",
    )
    relative_tolerance: float = checked(
        number(0.0, 1.0, or_equal=True),
        "It ends, too, once half of the interval is at most this share of |log ratio| times the ratio: ratios far "
        "from 1 need fewer digits. 0: never.",
    )
    batch_size: int | Literal["auto"] = checked(
        count_or("auto"),
        "Windows that are scored at once; auto: what keeps the device busy. It changes no result.",
    )
    dtype: Literal["float32", "bfloat16"] = checked(
        choice(*DTYPES),
        "Number format of the scoring. bfloat16 is faster where the processor multiplies it, and moves ratios by "
        "up to some per cent.",
    )

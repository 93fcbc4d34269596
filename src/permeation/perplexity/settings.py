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
    context: int = checked(integer(2))
    max_tokens: int | None = checked(optional(integer(2)))
    prepend_bos: bool | Literal["auto"] = checked(boolean_or_auto)
    tolerance: float | None = checked(optional(number(0.0)))
    hopeless: float | None = checked(optional(number(1.0)))
    relative_tolerance: float = checked(number(0.0, 1.0, or_equal=True))
    batch_size: int | Literal["auto"] = checked(count_or("auto"))
    dtype: Literal["float32", "bfloat16"] = checked(choice(*DTYPES))

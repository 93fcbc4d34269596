"""What a rival is given, what it gives, and how its storage is counted (docs/weights.md, Storage).

A rival is fitted once (`fit(problem)` gives a frozen `Rival`) and then applied at any of its sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from permeation.weights.heads import Heads
from permeation.weights.moments import Moments

BITS_PER_NUMBER = 16  # of numbers that are not rounded to fewer, as models are published in bfloat16


@dataclass(frozen=True)
class Problem:
    """What a rival is fitted to.

    Attributes:
        heads: the untouched weights. moments: of their layers' inputs.
        seed: of random draws. written: moments of what W_O reads, where V and O are stored as well.
    """

    heads: Heads
    moments: Moments
    seed: int
    written: Moments | None = None

    @classmethod
    def read(cls, weights: Path, moments: Path, seed: int, whole: bool = False) -> Problem:
        """Read the folders that `extract_wqk` and `baseline` wrote; `whole`: V and O as well."""
        written = Moments.read(moments, "written") if whole else None
        return cls(Heads.read(weights, whole=whole), Moments.read(moments), seed, written)

    def layers(self) -> Iterator[Problem]:
        """The problem of one layer after the other, its heads in float64: one layer's at a time exist in that."""
        for heads, moments in zip(self.heads.layers(), self.moments.layers(), strict=True):
            yield replace(self, heads=heads, moments=moments)


@runtime_checkable
class Rival(Protocol):
    """A fitted rival. At `largest` it gives the model back, except for rounding."""

    @property
    def smallest(self) -> int:
        """The smallest size."""

    @property
    def largest(self) -> int:
        """The largest size."""

    def stored_bits(self, size: int) -> int:
        """Bits stored at this size; they never fall as the size grows."""

    def apply(self, size: int) -> Heads:
        """The weights as they are read back at this size."""


class Numbers:
    """For rivals whose numbers all take 16 bits."""

    def stored_parameters(self, size: int) -> int:
        """Numbers stored at this size, by the formula in the rival's docstring."""
        raise NotImplementedError

    def stored_bits(self, size: int) -> int:
        """16 bits a number."""
        return BITS_PER_NUMBER * self.stored_parameters(size)


def original_parameters(heads: Heads) -> int:
    """Numbers in the heads' weights and biases; with grouped queries a key head counts once."""
    return sum(tensor.numel() for tensor in heads.tensors().values())


def bias_parameters(heads: Heads) -> int:
    """Numbers in b_Q and b_K."""
    return sum(tensor.numel() for tensor in (heads.b_Q, heads.b_K) if tensor is not None)


def size_within(rival: Rival, budget: int) -> int | None:
    """The largest size that takes at most `budget` bits; None where the smallest does not fit."""
    low, high = rival.smallest, rival.largest
    if rival.stored_bits(low) > budget:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rival.stored_bits(middle) <= budget else (low, middle - 1)
    return low


def sizes_near(rival: Rival, budgets: Sequence[float]) -> list[int]:
    """The sizes whose storage is nearest to the budgets, in bits; the larger of two that are equally near."""
    found = set()
    for budget in budgets:
        below = size_within(rival, int(budget))
        if below is None:
            found.add(rival.smallest)
            continue
        above = min(below + 1, rival.largest)
        nearer = budget - rival.stored_bits(below) < rival.stored_bits(above) - budget
        found.add(below if nearer else above)
    return sorted(found)

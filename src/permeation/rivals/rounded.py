"""Factors of a lower rank, rounded to a few bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from permeation.rivals.base import BITS_PER_NUMBER, Problem, bias_parameters
from permeation.rivals.low_rank import Subspace
from permeation.rivals.registry import Method
from permeation.rivals.rounding import SCALE_BITS, Grid
from permeation.rivals.stored import Layer, Stored
from permeation.weights.heads import Heads

GRID = Grid(clip=True)


@dataclass(frozen=True)
class RoundedFactors(Stored):
    """W ≈ P̂ B̂: every factor of a Subspace rounded to b bits, one scale a column. Its sizes are the Subspace's.

    The factors are plain ones: coordinates that could be fixed to save numbers (low_rank_parameters) would make some
    of the others large, and large numbers round badly. Stored: b bits a number of the factors, 16 a column's scale and
    a bias.

    Attributes:
        rival: what is rounded. heads: its untouched weights. bits: b.
    """

    rival: Subspace
    heads: Heads
    bits: int
    smallest: int
    largest: int

    @classmethod
    def fit(cls, problem: Problem, of: Method, bits: int) -> RoundedFactors:
        """Fit the method whose factors are rounded."""
        rival = of.fit(problem)
        assert isinstance(rival, Subspace)
        return cls(rival, problem.heads, bits, rival.smallest, rival.largest)

    def stored_bits(self, size: int) -> int:
        numbers, columns = self.rival.factor_sizes(size)
        return self.bits * numbers + SCALE_BITS * columns + BITS_PER_NUMBER * bias_parameters(self.heads)

    def stored(self, size: int) -> Iterator[Layer]:
        """The rounded factors; layers that share a P have the same one."""
        P = None
        for i, (left, right) in enumerate(self.rival.factors(size)):
            if i % self.rival.step == 0:
                P = GRID.encode(left[0], self.bits)
            yield Layer(P=P, B=GRID.encode(right[0], self.bits))

"""Factors of a lower rank, rounded to a few bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from permeation.rivals.base import BITS_PER_NUMBER, Problem, bias_parameters
from permeation.rivals.low_rank import LayerSubspace
from permeation.rivals.rounding import SCALE_BITS, Grid
from permeation.rivals.stored import Layer, Stored
from permeation.weights.heads import Heads

GRID = Grid(clip=True)


@dataclass(frozen=True)
class RoundedFactors(Stored):
    """W ≈ P̂ B̂: both factors of a LayerSubspace rounded to b bits, one scale a column. The size is that of the subspace.

    The factors are plain ones: coordinates that could be fixed to save numbers (low_rank_parameters) would make some
    of the others large, and large numbers round badly. Stored in each layer: r (d_model + m) numbers of b bits, and 2 r
    scales of 16; and the biases.

    Attributes:
        rival: what is rounded. heads: its untouched weights. bits: b.
    """

    rival: LayerSubspace
    heads: Heads
    bits: int
    largest: int
    smallest: int = 1

    @classmethod
    def fit(cls, problem: Problem, bits: int) -> RoundedFactors:
        """Fit the subspaces."""
        rival = LayerSubspace.fit(problem)
        return cls(rival, problem.heads, bits, rival.largest)

    def stored_bits(self, size: int) -> int:
        layers, d_model, _ = self.rival.P.shape
        of_layer = self.bits * size * (d_model + self.rival.B.shape[2]) + SCALE_BITS * 2 * size
        return layers * of_layer + BITS_PER_NUMBER * bias_parameters(self.heads)

    def stored(self, size: int) -> Iterator[Layer]:
        """The rounded factors."""
        for P, B in zip(self.rival.P, self.rival.B, strict=True):
            left, right = (GRID.encode(factor, self.bits) for factor in (P[:, :size], B[:size].mT))
            yield Layer(P=left, B=right)

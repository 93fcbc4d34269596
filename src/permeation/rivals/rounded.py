"""Factors of a lower rank, rounded to a few bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import BITS_PER_NUMBER, Problem, bias_parameters
from permeation.rivals.low_rank import Subspace
from permeation.rivals.registry import Method
from permeation.rivals.rounding import SCALE_BITS, Grid
from permeation.weights.heads import Heads

GRID = Grid(clip=True)


@dataclass(frozen=True)
class RoundedFactors:
    """W ≈ P̂ B̂: every factor of a Subspace rounded to b bits, one scale a column. Its sizes are the Subspace's.

    The factors are plain ones: coordinates that could be fixed to save numbers (low_rank_parameters) would make some
    of the others large, and large numbers round badly. Stored: b bits a number of the factors, 16 a column's scale and
    a bias.

    Attributes:
        rival: what is rounded. bits: b.
    """

    rival: Subspace
    bits: int

    @classmethod
    def fit(cls, problem: Problem, of: Method, bits: int) -> RoundedFactors:
        """Fit the method whose factors are rounded."""
        rival = of.fit(problem)
        assert isinstance(rival, Subspace)
        return cls(rival, bits)

    @property
    def smallest(self) -> int:
        """As of the rival."""
        return self.rival.smallest

    @property
    def largest(self) -> int:
        """As of the rival."""
        return self.rival.largest

    def stored_bits(self, size: int) -> int:
        numbers, columns = self.rival.factor_sizes(size)
        return self.bits * numbers + SCALE_BITS * columns + BITS_PER_NUMBER * bias_parameters(self.rival.heads)

    def apply(self, size: int) -> Heads:
        """The product of the rounded factors."""
        return self.rival.apply(size, partial(round_each, grid=GRID, bits=self.bits))


def round_each(factor: Float[Tensor, "layers n rank"], grid: Grid, bits: int) -> Float[Tensor, "layers n rank"]:
    """Each layer's factor, rounded."""
    return torch.stack([grid.round(matrix, bits) for matrix in factor])

"""Integers, and a correction of low rank for their error: W ≈ Q + P B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Problem
from permeation.rivals.low_rank import from_layer_matrices, layer_matrices, leading_directions
from permeation.rivals.quantised import Integers
from permeation.rivals.rounded import round_each
from permeation.rivals.rounding import SCALE_BITS, Grid
from permeation.weights.heads import Heads, gathered

FACTOR_BITS = 8
GRID = Grid()


@dataclass(frozen=True)
class IntegersAndResidual:
    """Q is W at b bits, P B the matrix of rank r that is nearest to W − Q in the score metric, layer by layer.

    By the SVD of S^½ (W − Q), as in LayerSubspace (LQER, Zhang et al. 2024, with the full S). The size is r. Stored: Q
    as Integers, and r (d_model + m) numbers a layer at 8 bits with a scale a column.

    Attributes:
        integers: gives Q. bits: b. base: Q, in float32, which holds b bits times two scales of 8 exactly.
        P, B: at full rank, the leading directions first.
    """

    integers: Integers
    bits: int
    base: Float[Tensor, "layers d_model columns"]
    P: Float[Tensor, "layers d_model rank"]
    B: Float[Tensor, "layers rank columns"]

    @classmethod
    def fit(cls, problem: Problem, bits: int, **rounding: Any) -> IntegersAndResidual:
        """Round by `Integers.fit(**rounding)`, then one eigendecomposition a layer."""
        integers, generator = Integers.fit(problem, **rounding), torch.Generator().manual_seed(problem.seed)

        def parts(layer: Problem) -> tuple[Tensor, Tensor, Tensor]:
            base = integers.rounded(layer, bits, generator)[None].float()
            return base, *leading_directions(layer_matrices(layer.heads) - base, layer.moments.shrunk)

        return cls(integers, bits, *gathered(map(parts, problem.layers()), len(problem.heads.W_Q)))

    @property
    def smallest(self) -> int:
        """No correction."""
        return 0

    @property
    def largest(self) -> int:
        """The rank of W."""
        return self.P.shape[2]

    def stored_bits(self, size: int) -> int:
        layers, d_model, _ = self.P.shape
        numbers, columns = size * (d_model + self.B.shape[2]), 2 * size
        return self.integers.stored_bits(self.bits) + layers * (FACTOR_BITS * numbers + SCALE_BITS * columns)

    def apply(self, size: int) -> Heads:
        """Q and the rounded correction."""

        def read_back(base: Tensor, P: Tensor, B: Tensor) -> Tensor:
            left, right = (round_each(factor, GRID, FACTOR_BITS) for factor in (P[:, :, :size], B[:, :size].mT))
            return base + left @ right.mT

        return from_layer_matrices(
            map(read_back, self.base.split(1), self.P.split(1), self.B.split(1)), self.integers.heads
        )

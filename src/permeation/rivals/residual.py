"""Integers, and a correction of low rank for their error: W ≈ Q + P B."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Problem
from permeation.rivals.low_rank import layer_matrices, leading_directions
from permeation.rivals.quantised import Integers
from permeation.rivals.rounding import SCALE_BITS, Grid
from permeation.rivals.stored import Layer, Stored
from permeation.weights.heads import Heads, gathered

FACTOR_BITS = 8
GRID = Grid()


@dataclass(frozen=True)
class IntegersAndResidual(Stored):
    """Q is W at b bits, P B the matrix of rank r that is nearest to W − Q in the score metric, layer by layer.

    By the SVD of S^½ (W − Q), as in LayerSubspace (LQER, Zhang et al. 2024, with the full S). The size is r. Stored: Q
    as Integers, and r (d_model + m) numbers a layer at 8 bits with a scale a column.

    Attributes:
        integers: gives Q. heads: the untouched weights. bits: b. base: Q of each layer.
        P, B: at full rank, the leading directions first.
    """

    integers: Integers
    heads: Heads
    bits: int
    base: Sequence[Layer]
    P: Float[Tensor, "layers d_model rank"]
    B: Float[Tensor, "layers rank columns"]
    largest: int  # the rank of W
    smallest: int = 0  # no correction

    @classmethod
    def fit(cls, problem: Problem, bits: int, **rounding: Any) -> IntegersAndResidual:
        """Round by `Integers.fit(**rounding)`, then one eigendecomposition a layer."""
        integers, generator = Integers.fit(problem, **rounding), torch.Generator().manual_seed(problem.seed)
        base = []

        def factors(layer: Problem) -> tuple[Tensor, Tensor]:
            base.append(integers.rounded(layer, bits, generator))
            return leading_directions(layer_matrices(layer.heads) - base[-1].matrix(), layer.moments.shrunk)

        P, B = gathered(map(factors, problem.layers()), len(problem.heads.W_Q))
        return cls(integers, problem.heads, bits, base, P, B, P.shape[2])

    def stored_bits(self, size: int) -> int:
        layers, d_model, _ = self.P.shape
        numbers, columns = size * (d_model + self.B.shape[2]), 2 * size
        return self.integers.stored_bits(self.bits) + layers * (FACTOR_BITS * numbers + SCALE_BITS * columns)

    def stored(self, size: int) -> Iterator[Layer]:
        """Q and the rounded correction."""
        for base, P, B in zip(self.base, self.P, self.B, strict=True):
            left, right = (GRID.encode(factor, FACTOR_BITS) for factor in (P[:, :size], B[:size].mT))
            yield replace(base, P=left, B=right) if size else base

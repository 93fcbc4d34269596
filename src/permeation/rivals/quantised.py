"""W_Q and W_K as integers of a few bits: the yardstick that a decomposition has to beat, and the best of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import BITS_PER_NUMBER, Problem, bias_parameters
from permeation.rivals.low_rank import from_layer_matrices, layer_matrices
from permeation.rivals.rounding import SCALE_BITS, Grid, gptq, stored_scale
from permeation.weights.heads import Heads


@dataclass(frozen=True)
class Integers:
    """Every weight as an integer of b bits on a grid (rounding.Grid); the size is b. Biases stay.

    `rows`: each row of a layer's W is divided by its root mean square before, and multiplied behind. The scales of a
    folded norm stretch rows, and a step that fits the largest erases the smallest.

    Stored: b bits a number, 16 a scale, an offset, a row and a bias.

    Attributes:
        problem: the untouched weights, and the moments for GPTQ. grid: what shares a scale, and how it is chosen.
        compensated: whether by GPTQ; else to the nearest. rows: as above.
    """

    problem: Problem
    grid: Grid
    compensated: bool
    rows: bool
    smallest: int = 2
    largest: int = 8

    @classmethod
    def fit(cls, problem: Problem, compensated: bool = False, rows: bool = False, **grid: Any) -> Integers:
        """Nothing to fit."""
        return cls(problem, Grid(**grid), compensated, rows)

    @property
    def heads(self) -> Heads:
        """The untouched weights."""
        return self.problem.heads

    def stored_bits(self, size: int) -> int:
        W_Q, W_K = self.heads.W_Q, self.heads.W_K
        scales = sum(self.grid.scales(W.shape[2], W.numel() // W.shape[2]) for W in (W_Q, W_K))
        scales += W_Q.shape[0] * W_Q.shape[2] if self.rows else 0
        return size * (W_Q.numel() + W_K.numel()) + SCALE_BITS * scales + BITS_PER_NUMBER * bias_parameters(self.heads)

    def apply(self, size: int) -> Heads:
        """The weights rounded to `size` bits, layer by layer."""
        return from_layer_matrices((self.rounded(layer, size)[None] for layer in self.problem.layers()), self.heads)

    def rounded(self, layer: Problem, bits: int) -> Float[Tensor, "d_model columns"]:
        """W of a layer, rounded."""
        W = layer_matrices(layer.heads)[0]
        by = stored_scale(W.square().mean(1, keepdim=True).sqrt()) if self.rows else torch.ones_like(W[:, :1])
        divisor = torch.where(by > 0, by, 1)  # a row of zeros, as a norm whose scale is 0 leaves, stays one
        if self.compensated:
            return by * gptq(W / divisor, divisor * layer.moments.shrunk[0] * divisor.mT, self.grid, bits)
        return by * self.grid.round(W / divisor, bits)

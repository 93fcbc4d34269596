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
        heads: the untouched weights. grid: what shares a scale, and how it is chosen. rows: as above.
        H: second moments of the layers' inputs, for GPTQ; None: to the nearest.
    """

    heads: Heads
    grid: Grid
    rows: bool
    H: Float[Tensor, "layers d_model d_model"] | None
    smallest: int = 2
    largest: int = 8

    @classmethod
    def fit(cls, problem: Problem, compensated: bool = False, rows: bool = False, **grid: Any) -> Integers:
        """Nothing to fit but the second moments; `compensated`: by GPTQ."""
        H = problem.moments.shrunk if compensated else None
        return cls(problem.heads, Grid(**grid), rows, H)

    def stored_bits(self, size: int) -> int:
        W_Q, W_K = self.heads.W_Q, self.heads.W_K
        scales = sum(self.grid.scales(W.shape[2], W.numel() // W.shape[2]) for W in (W_Q, W_K))
        scales += W_Q.shape[0] * W_Q.shape[2] if self.rows else 0
        return size * (W_Q.numel() + W_K.numel()) + SCALE_BITS * scales + BITS_PER_NUMBER * bias_parameters(self.heads)

    def apply(self, size: int) -> Heads:
        """The weights rounded to `size` bits, layer by layer."""
        W = layer_matrices(self.heads)
        by = stored_scale(W.square().mean(2, keepdim=True).sqrt()) if self.rows else torch.ones_like(W[:, :, :1])
        if self.H is None:
            rounded = [self.grid.round(layer, size) for layer in W / by]
        else:
            metrics = by * self.H * by.mT
            rounded = [gptq(layer, H, self.grid, size) for layer, H in zip(W / by, metrics, strict=True)]
        return from_layer_matrices(by * torch.stack(rounded), self.heads)

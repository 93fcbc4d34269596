"""W_Q and W_K as integers of a few bits: the yardstick that a decomposition has to beat.

Ŵ = diag(r) · round(diag(r)⁻¹ W), or with a rotation R of the residual stream: diag(r) Rᵀ · round(R diag(r)⁻¹ W)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import BITS_PER_NUMBER, Problem, bias_parameters
from permeation.rivals.low_rank import layer_matrices
from permeation.rivals.rounding import SCALE_BITS, Grid, gptq, stored_scale
from permeation.rivals.stored import Layer, Stored, random_rotation
from permeation.weights.heads import Heads

Way = Literal["nearest", "gptq", "rotated", "awq"]
EXPONENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # that `awq` tries


@dataclass(frozen=True)
class Integers(Stored):
    """Every weight as an integer of b bits on a grid (rounding.Grid); the size is b. Biases stay.

    `rows`: each row of a layer's W is divided by its root mean square r before, and multiplied after. The scales of a
    folded norm stretch rows, and a step that fits the largest erases the smallest.

    `rotated`: a random rotation of d_model dimensions before and its inverse after, another one in each layer. A
    control for models from a file of few bits: their weights lie on that file's grid, which flatters rounding in the
    same coordinates. With one rotation for all layers the ratio differs more from draw to draw.

    `awq`: rows are divided by r = (E x²)^(−a/2), of EXPONENTS the a of least E ‖(W − Ŵ)ᵀ x‖²: what reads large inputs
    is rounded finely (AWQ, Lin et al. 2024).

    Stored: b bits a number, 16 a scale, an offset, a row and a bias. Rotations are drawn from a seed.

    Attributes:
        problem: the moments for GPTQ, the seed. heads: the untouched weights. grid: what shares a scale, and how it is
            chosen. way: to the nearest point, so after a rotation or with AWQ's scales, or by GPTQ. rows: as above.
    """

    problem: Problem
    heads: Heads
    grid: Grid
    way: Way
    rows: bool
    smallest: int = 2
    largest: int = 8

    @classmethod
    def fit(cls, problem: Problem, way: Way = "nearest", rows: bool = False, **grid: Any) -> Integers:
        """Nothing to fit."""
        return cls(problem, problem.heads, Grid(**grid), way, rows)

    def stored_bits(self, size: int) -> int:
        W_Q, W_K = self.heads.W_Q, self.heads.W_K
        scales = sum(self.grid.scales(W.shape[2], W.numel() // W.shape[2]) for W in (W_Q, W_K))
        scales += W_Q.shape[0] * W_Q.shape[2] if self.rows or self.way == "awq" else 0
        return size * (W_Q.numel() + W_K.numel()) + SCALE_BITS * scales + BITS_PER_NUMBER * bias_parameters(self.heads)

    def stored(self, size: int) -> Iterator[Layer]:
        """The weights rounded to `size` bits, layer by layer."""
        generator = torch.Generator().manual_seed(self.problem.seed)
        return (self.rounded(layer, size, generator) for layer in self.problem.layers())

    def rounded(self, layer: Problem, bits: int, generator: torch.Generator) -> Layer:
        """A layer, rounded."""
        W = layer_matrices(layer.heads)[0]
        if self.way == "awq":
            return self._awq(W, layer.moments.shrunk[0], bits)
        by = stored_scale(W.square().mean(1, keepdim=True).sqrt()) if self.rows else torch.ones_like(W[:, :1])
        divisor = torch.where(by > 0, by, 1)  # a row of zeros, as a norm whose scale is 0 leaves, stays one
        R = random_rotation(len(W), generator) if self.way == "rotated" else None
        W = W / divisor if R is None else R @ (W / divisor)
        if self.way == "gptq":
            codes = gptq(W, divisor * layer.moments.shrunk[0] * divisor.mT, self.grid, bits)
        else:
            codes = self.grid.encode(W, bits)
        return Layer(codes, by if self.rows else None, R)

    def _awq(self, W: Float[Tensor, "d_model columns"], S: Float[Tensor, "d_model d_model"], bits: int) -> Layer:
        scales = (stored_scale((S.diagonal() / S.diagonal().mean())[:, None] ** (-a / 2)) for a in EXPONENTS)
        tried = [Layer(self.grid.encode(W / by, bits), by) for by in scales]
        errors = (W - layer.matrix()[0] for layer in tried)
        return tried[int(torch.stack([(E * (S @ E)).sum() for E in errors]).argmin())]

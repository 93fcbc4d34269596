"""Round-to-nearest integers: the yardstick that a decomposition has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import BYTES_PER_NUMBER, Problem, bias_parameters
from permeation.weights.heads import Heads


@dataclass(frozen=True)
class Quantised:
    """Every weight as an integer of b bits times a scale of its column, max |w| / (2^(b−1) − 1); biases stay.

    Stored: the numbers of W_Q and W_K at b bits, and at 16 bits one scale a column (a coordinate of a head) and the
    biases. The only size is b.
    """

    heads: Heads
    bits: int

    @classmethod
    def fit(cls, problem: Problem, bits: int) -> Quantised:
        """Nothing to fit: the scales are the columns' own."""
        return cls(problem.heads, bits)

    @property
    def smallest(self) -> int:
        """b, the only size."""
        return self.bits

    @property
    def largest(self) -> int:
        """b, the only size."""
        return self.bits

    def _extra(self) -> int:
        columns = sum(W.numel() // W.shape[2] for W in (self.heads.W_Q, self.heads.W_K))
        return columns + bias_parameters(self.heads)

    def stored_parameters(self, _size: int) -> int:
        """Integers, scales and biases."""
        return self.heads.W_Q.numel() + self.heads.W_K.numel() + self._extra()

    def stored_bytes(self, size: int) -> int:
        """The integers in whole bytes, and two bytes for each scale and bias."""
        integers = self.heads.W_Q.numel() + self.heads.W_K.numel()
        return -(-integers * size // 8) + BYTES_PER_NUMBER * self._extra()

    def apply(self, size: int) -> Heads:
        """The weights rounded."""
        heads = self.heads
        return Heads(round_to_nearest(heads.W_Q, size), round_to_nearest(heads.W_K, size), heads.b_Q, heads.b_K)


def round_to_nearest(W: Float[Tensor, "*shape"], bits: int) -> Float[Tensor, "*shape"]:
    """W rounded to 2^b − 1 levels symmetric about 0, with one scale a column (the second last axis is d_model)."""
    scale = W.abs().amax(dim=-2, keepdim=True) / (2 ** (bits - 1) - 1)
    return (W / scale.clamp(min=1e-300)).round() * scale

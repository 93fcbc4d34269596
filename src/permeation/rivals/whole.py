"""All of attention: a method that stores matrices, applied to W_V and W_O as well (`rivals.matrices`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from permeation.frame.errors import PermeationError
from permeation.rivals.base import Problem, Rival
from permeation.rivals.registry import GRAM, Method
from permeation.weights.heads import Heads


@dataclass(frozen=True)
class WholeAttention:
    """W_Q, W_K and W_V side by side as one rival stores them, and W_O as another of the same method does.

    W_V reads what W_Q and W_K read, in their metric E x xᵀ. W_O, as (heads d_head, d_model), reads z, the heads'
    outputs side by side. Its metric is E z zᵀ: E ‖(W_O − Ŵ_O)ᵀ z‖² is what is lost of what the heads write. Neither is
    rotated by positions. The size is that of both, or W_O's largest. A bias of W_O, or of keys or values alone, stays.

    Attributes:
        reading, writing: the two rivals. heads: the untouched weights, all of them.
    """

    reading: Rival
    writing: Rival
    heads: Heads
    smallest: int
    largest: int

    @classmethod
    def fit(cls, of: Method, problem: Problem) -> WholeAttention:
        """Fit both. Raises PermeationError for a method that mixes the heads' W_QK, in which V and O do not occur."""
        if of.place == GRAM:
            raise PermeationError("this method mixes the heads' W_QK; V and O are stored by those that store matrices")
        heads, written = problem.heads, problem.written
        assert heads.W_V is not None and heads.W_O is not None and written is not None
        keys = None if heads.b_K is None or heads.b_V is None else torch.cat([heads.b_K, heads.b_V], dim=1)
        read = Heads(heads.W_Q, torch.cat([heads.W_K, heads.W_V], dim=1), heads.b_Q, keys)
        W_O = heads.W_O.flatten(1, 2)[:, None]
        reading = of.fit(Problem(read, problem.moments, problem.seed))
        writing = of.fit(Problem(Heads(W_O, W_O[:, :0]), written, problem.seed))
        return cls(reading, writing, heads, reading.smallest, reading.largest)

    def stored_bits(self, size: int) -> int:
        """Of both."""
        return self.reading.stored_bits(size) + self.writing.stored_bits(min(size, self.writing.largest))

    def apply(self, size: int) -> Heads:
        """All four, as they are read back."""
        read, written = self.reading.apply(size), self.writing.apply(min(size, self.writing.largest))
        assert self.heads.W_O is not None
        W_K, W_V = read.W_K.chunk(2, dim=1)
        b_K, b_V = (None, None) if read.b_K is None else read.b_K.chunk(2, dim=1)
        return Heads(read.W_Q, W_K, read.b_Q, b_K, W_V, written.W_Q[:, 0].view_as(self.heads.W_O), b_V)

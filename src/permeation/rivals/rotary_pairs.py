"""Heads with fewer coordinates, in a model whose positions rotate them two by two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.rivals.base import Numbers, Problem, kept_values
from permeation.weights.heads import Heads, biases_as_rows, each_layer


@dataclass(frozen=True)
class RotaryPairs(Numbers):
    """Of the pairs of coordinates that positions rotate, those that scores need least are left out (A3, 2025).

    An SVD of W_Q W_Kᵀ mixes coordinates that turn at different speeds; a pair left out of queries and keys alike is
    exact in the others. What a pair p of a key head adds to the mean square of the scores, over distances, is at most
    Σ_q E‖q_p‖² E‖k_p‖², q over the query heads of its group, with E‖q_p‖² = tr W_Qpᵀ S W_Qp. `equal`: size is the
    pairs that every key head keeps. `greedy`: the pairs that the whole model keeps.

    Stored: for each kept pair 2 (g + 1) d numbers, d = d_model (+ 1 in a family with biases), and its index.

    Attributes:
        heads: the untouched weights. pairs: the coordinates of each pair. order: pairs of every key head, the needed
            ones first. need: by how much, falling. greedy: as above.
    """

    heads: Heads
    pairs: Int[Tensor, "pairs 2"]
    order: Int[Tensor, "groups pairs"]
    need: Float[Tensor, "groups pairs"]
    greedy: bool

    @classmethod
    def fit(cls, problem: Problem, greedy: bool) -> RotaryPairs:
        """What each pair adds to the scores. Raises PermeationError where positions rotate nothing."""
        if problem.pairs is None:
            raise PermeationError(
                "this model's positions rotate no coordinates; its optimum of lower rank is circuit_svd_score"
            )
        need = torch.cat([_need(layer, problem.pairs) for layer in problem.layers()])
        need, order = need.sort(dim=1, descending=True, stable=True)
        return cls(problem.heads, problem.pairs, order, need, greedy)

    @property
    def smallest(self) -> int:
        """One pair; greedy: in the whole model."""
        return 1

    @property
    def largest(self) -> int:
        """All pairs."""
        return self.need.numel() if self.greedy else self.need.shape[1]

    def stored_parameters(self, size: int) -> int:
        heads = self.heads
        d = heads.W_Q.shape[2] + (heads.b_Q is not None)
        group = heads.W_Q.shape[1] // heads.W_K.shape[1]
        count = size if self.greedy else size * len(self.need)
        left_out = count < self.need.numel()  # which ones are kept is to be said only where some are not
        return count * (2 * (group + 1) * d + left_out)

    def apply(self, size: int) -> Heads:
        """The weights with 0 in the coordinates that are left out."""
        heads = self.heads
        kept = torch.zeros_like(self.need).scatter_(1, self.order, kept_values(self.need, size, self.greedy))
        mask = torch.zeros(len(kept), heads.W_Q.shape[3], dtype=kept.dtype)
        mask[:, self.pairs.flatten()] = kept.repeat_interleave(2, dim=1)
        of_keys = mask.unflatten(0, heads.W_K.shape[:2])
        of_queries = of_keys.repeat_interleave(heads.W_Q.shape[1] // heads.W_K.shape[1], dim=1)
        sides = ((heads.W_Q, heads.b_Q, of_queries), (heads.W_K, heads.b_K, of_keys))
        (W_Q, b_Q), (W_K, b_K) = ((W * m[:, :, None], None if b is None else b * m) for W, b, m in sides)
        return Heads(W_Q, W_K, b_Q, b_K)


def _need(layer: Problem, pairs: Int[Tensor, "pairs 2"]) -> Float[Tensor, "kv_heads pairs"]:
    """What each pair of a layer's key heads adds to the scores."""
    rows = biases_as_rows(layer.heads)
    S = layer.moments.shrunk if layer.heads.b_Q is None else layer.moments.augmented
    queries, keys = ((W * each_layer(S, W)).sum(2)[:, :, pairs].sum(3)[0] for W in (rows.W_Q, rows.W_K))
    return queries.unflatten(0, (len(keys), -1)).sum(1) * keys

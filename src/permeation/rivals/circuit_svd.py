"""The circuit form W_Q W_Kᵀ cut to a lower rank: the fewest coordinates in which queries and keys of a head meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Factored, Problem, kept_values, low_rank_parameters, refuse_rotary
from permeation.rivals.low_rank import Metric, unwhitened
from permeation.weights.heads import Heads, biases_as_rows, each_layer, gathered
from permeation.weights.moments import triangular_root


@dataclass(frozen=True)
class CircuitRanks(Factored):
    """The SVD of a key head's circuit form, the query heads of its group on top of each other, cut to rank r.

    In the score metric this is the joint optimum of queries and keys for the score (KQ-SVD, 2025).

    (W_Q1; …; W_Qg) W_Kᵀ ≈ U Σ Vᵀ, W̃_Q = U Σ^½ and W̃_K = V Σ^½ in the first r of d_head coordinates. `score`: of A =
    S^½ W_Q W_Kᵀ S^½ with the biases as one more row of each (Moments.augmented), mapped back by S^−½: the least mean
    squared error of attention scores. `equal` and greedy ranks as in HeadRanks.

    Queries and keys get other coordinates. Rotary positions turn pairs of the old ones, so that rotary models are
    refused, even at full rank.

    Stored: Σ_key heads r (g d + d − r) + min(r, g d − r) [+ 1 where greedy], d = d_model (+ 1 in a family with biases:
    their coordinates change too, so that they are rows of W in the plain SVD as well). At full rank d_head this is
    d_head² − d_head numbers a key head less than W_Q and W_K have, because their coordinates need not be stored.

    Attributes:
        heads: the untouched weights. left: (groups, g d, d_head) and right: (groups, d, d_head), S^−½ U and S^−½ V.
        S: singular values of each group, falling. greedy: whether the largest singular values of all groups are kept,
            instead of as many of each.
    """

    heads: Heads
    left: Float[Tensor, "groups rows d_head"]
    right: Float[Tensor, "groups d d_head"]
    S: Float[Tensor, "groups d_head"]
    greedy: bool

    @classmethod
    def fit(cls, problem: Problem, metric: Metric, greedy: bool) -> CircuitRanks:
        """One SVD a key head, through the QR factors, so that no d × d matrix is formed."""
        refuse_rotary(problem, "an SVD of W_Q W_Kᵀ puts them into coordinates that no longer rotate together")
        layers, kv_heads = problem.heads.W_K.shape[:2]

        def decomposed(layer: Problem) -> tuple[Tensor, Tensor, Tensor]:
            rows = biases_as_rows(layer.heads)
            d = rows.W_K.shape[2]
            if metric == "score":
                F = triangular_root(layer.moments.shrunk if layer.heads.b_Q is None else layer.moments.augmented)
            else:
                F = torch.eye(d, dtype=rows.W_Q.dtype)[None]
            queries = each_layer(F, rows.W_Q).unflatten(1, (kv_heads, -1)).flatten(2, 3)  # (1, kv_heads, g d, d_head)
            Q_left, R_left = torch.linalg.qr(queries)
            Q_right, R_right = torch.linalg.qr(each_layer(F, rows.W_K))
            U, S, Vh = torch.linalg.svd(R_left @ R_right.mT)
            left = unwhitened(F, (Q_left @ U).unflatten(2, (-1, d))).flatten(2, 3)
            return left, unwhitened(F, Q_right @ Vh.mT), S

        left, right, S = (each.flatten(0, 1) for each in gathered(map(decomposed, problem.layers()), layers))
        return cls(problem.heads, left, right, S, greedy)

    @property
    def smallest(self) -> int:
        """Rank 1; greedy: a single rank in the whole model."""
        return 1

    @property
    def largest(self) -> int:
        """Full rank."""
        return self.S.numel() if self.greedy else self.S.shape[1]

    def stored_parameters(self, size: int) -> int:
        rows, columns = self.left.shape[1], self.right.shape[1]
        ranks = [int(rank) for rank in kept_values(self.S, size, self.greedy).sum(1)]
        return sum(low_rank_parameters(rows, columns, rank) for rank in ranks) + self.rank_numbers

    @property
    def rank_numbers(self) -> int:
        """A number a key head, where greedy."""
        return len(self.S) if self.greedy else 0

    def factors(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """U Σ^½ and V Σ^½ of each layer's key heads, their columns 0 beyond the rank."""
        half = (self.S.sqrt() * kept_values(self.S, size, self.greedy))[:, None]
        kv_heads = self.heads.W_K.shape[1]
        for left, right, each in zip(*(side.split(kv_heads) for side in (self.left, self.right, half)), strict=True):
            yield left * each, right * each

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """Σ ranks (g d + d) numbers in 2 Σ ranks columns; biases are rows of the factors, if there are any."""
        ranks = int(kept_values(self.S, size, self.greedy).sum())
        return ranks * (self.left.shape[1] + self.right.shape[1]), 2 * ranks

    def assembled(self, factors: Iterable[tuple[Tensor, ...]]) -> Heads:
        """The queries and keys that the factors are."""
        each = ((left.unflatten(1, (-1, right.shape[1])).flatten(0, 1)[None], right[None]) for left, right in factors)
        W_Q, W_K = gathered(each, len(self.heads.W_Q))
        if self.heads.b_Q is None:
            return Heads(W_Q, W_K)
        return Heads(W_Q[:, :, :-1], W_K[:, :, :-1], W_Q[:, :, -1], W_K[:, :, -1])

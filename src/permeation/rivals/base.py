"""What a rival is given, what it gives, and how storage is counted.

A rival is fitted once (`fit(problem)` gives a frozen `Rival`) and then applied at any of its sizes. How storage is
counted: docs/weights.md, Storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json
from permeation.weights.heads import Heads
from permeation.weights.moments import Moments

BITS_PER_NUMBER = 16  # of what is not rounded to fewer, as models are published in bfloat16


@dataclass(frozen=True)
class Problem:
    """What a rival is fitted to.

    Attributes:
        heads: the untouched weights. moments: of their layers' inputs.
        pairs: the coordinates of a head that positions rotate together, two by two; None where they rotate none.
        seed: of what is drawn at random.
    """

    heads: Heads
    moments: Moments
    pairs: Int[Tensor, "pairs 2"] | None
    seed: int

    @classmethod
    def read(cls, model: Path, weights: Path, moments: Path, seed: int) -> Problem:
        """From what fetch_model, extract_wqk and moments wrote."""
        sizes = read_json(model / "model.json")
        pairs = pairs_of(sizes["d_head"], sizes["rotated"], sizes["interleaved"]) if sizes["rotary"] else None
        return cls(Heads.read(weights), Moments.read(moments), pairs, seed)

    def part(self, layers: slice) -> Problem:
        """What some layers pose."""
        return replace(self, heads=self.heads.part(layers), moments=self.moments.part(layers))

    def layers(self) -> Iterator[Problem]:
        """What one layer after the other poses, its heads in float64: no more than a layer's exist in that."""
        for heads, moments in zip(self.heads.layers(), self.moments.layers(), strict=True):
            yield replace(self, heads=heads, moments=moments)


def pairs_of(d_head: int, rotated: int, interleaved: bool) -> Int[Tensor, "pairs 2"]:
    """The coordinates of a head, two by two: those that are rotated together, then the others in their order."""
    turned = torch.arange(rotated)
    together = turned.view(-1, 2) if interleaved else turned.view(2, -1).T
    return torch.cat([together, torch.arange(rotated, d_head).view(-1, 2)])


@runtime_checkable
class Rival(Protocol):
    """A fitted rival. At `largest` it gives the model back, but for what it rounds."""

    @property
    def smallest(self) -> int:
        """The smallest size there is."""

    @property
    def largest(self) -> int:
        """The largest size there is."""

    def stored_bits(self, size: int) -> int:
        """What is kept at this size, in bits; a larger size never keeps fewer."""

    def apply(self, size: int) -> Heads:
        """The weights as they are read back at this size."""


class Numbers:
    """For rivals whose numbers all take 16 bits."""

    def stored_parameters(self, size: int) -> int:
        """Numbers kept at this size, by the formula in the rival's own docstring."""
        raise NotImplementedError

    def stored_bits(self, size: int) -> int:
        """16 bits a number."""
        return BITS_PER_NUMBER * self.stored_parameters(size)


class Factored(Numbers):
    """For rivals that are a product of factors, (…, n, rank) each."""

    heads: Heads  # the untouched weights

    @property
    def smallest(self) -> int:
        """As of Rival."""
        raise NotImplementedError

    @property
    def largest(self) -> int:
        """As of Rival."""
        raise NotImplementedError

    def apply(self, size: int) -> Heads:
        """The product of the factors."""
        return self.assembled(self.factors(size))

    def factors(self, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The factors at a size, of one layer (or what is decomposed as one) after the other.

        A column that is not kept is 0.
        """
        raise NotImplementedError

    def assembled(self, factors: Iterable[tuple[Tensor, ...]]) -> Heads:
        """The weights that factors give."""
        raise NotImplementedError

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """How many numbers are in the kept columns of all factors, and how many columns these are."""
        raise NotImplementedError

    @property
    def rank_numbers(self) -> int:
        """Numbers that say which rank each matrix has; none where all have the same."""
        return 0


def original_parameters(heads: Heads) -> int:
    """Numbers in W_Q, W_K and their biases; with grouped queries a key head counts once."""
    return sum(tensor.numel() for tensor in heads.tensors().values())


def bias_parameters(heads: Heads) -> int:
    """Numbers in b_Q and b_K."""
    return sum(tensor.numel() for tensor in (heads.b_Q, heads.b_K) if tensor is not None)


def low_rank_parameters(rows: int, columns: int, rank: int) -> int:
    """Numbers that hold a rows × columns matrix of rank r: r (rows + columns − r) + min(r, rows − r), or all of it.

    B is r of the matrix's own rows, and a (rows − r) × r matrix T makes the other rows of B. Which rows B has is a list
    of indices, of the rows in it or of those that are not, whichever is shorter. Two plain factors, r (rows + columns),
    are larger than the matrix from r = rows columns / (rows + columns) on; here the matrix itself is kept where that
    takes less.
    """
    return min(rows * columns, rank * (rows + columns - rank) + min(rank, rows - rank))


def frame_parameters(rows: int, rank: int) -> int:
    """Numbers that hold an r-dimensional subspace of `rows` dimensions: r (rows − r) + min(r, rows − r).

    As in low_rank_parameters, without B: r rows of a basis can be made the identity.
    """
    return rank * (rows - rank) + min(rank, rows - rank)


def kept_values(S: Float[Tensor, "matrices rank"], size: int, greedy: bool) -> Float[Tensor, "matrices rank"]:
    """1 where a singular value is kept: the first `size` of each matrix, or (greedy) the `size` largest of all."""
    if not greedy:
        return (torch.arange(S.shape[1]) < size).to(S).expand_as(S)
    chosen = torch.zeros_like(S).flatten()
    chosen[S.flatten().argsort(descending=True, stable=True)[:size]] = 1
    return chosen.view_as(S)


def size_within(rival: Rival, budget: int) -> int | None:
    """The largest size that takes at most `budget` bits; None where the smallest does not fit."""
    low, high = rival.smallest, rival.largest
    if rival.stored_bits(low) > budget:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rival.stored_bits(middle) <= budget else (low, middle - 1)
    return low


def sizes_near(rival: Rival, budgets: Sequence[float]) -> list[int]:
    """The sizes whose storage is nearest to the budgets, in bits; the larger of two that are equally near."""
    found = []
    for budget in budgets:
        below = size_within(rival, int(budget))
        if below is None:
            found.append(rival.smallest)
            continue
        above = min(below + 1, rival.largest)
        nearer = budget - rival.stored_bits(below) < rival.stored_bits(above) - budget
        found.append(below if nearer else above)
    return sorted(set(found))


def refuse_rotary(problem: Problem, reason: str) -> None:
    """Raise PermeationError where positions rotate queries and keys."""
    if problem.pairs is not None:
        raise PermeationError(f"this model rotates queries and keys by position: {reason}")

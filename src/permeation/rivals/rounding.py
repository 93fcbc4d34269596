"""Numbers as integers of a few bits: nearest, with clipped scales, or one row after the other as GPTQ does.

A column of a matrix shares a scale, or each group of neighbouring rows in it. Of W_Q and W_K the rows are d_model and
the columns the coordinates of heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

SCALE_BITS = 16  # a scale, and an offset, as bfloat16
CLIPPED = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4)  # of the range, that `clip` tries


@dataclass(frozen=True)
class Grid:
    """The values that a number can have after rounding: offset + scale · q.

    Symmetric: offset 0 and |q| < 2^(b−1), scale = max |w| / (2^(b−1) − 1). With `offset`: q from 0 to 2^b − 1 between
    the least and the largest number. Scales and offsets are rounded to bfloat16 first.

    Attributes:
        group: how many rows share a scale; None: all of a column. offset: whether there is one.
        clip: cut the range to the share of it (CLIPPED) that has the least squared error.
    """

    group: int | None = None
    offset: bool = False
    clip: bool = False

    def scales(self, rows: int, columns: int) -> int:
        """How many scales and offsets a matrix has."""
        groups = 1 if self.group is None else -(-rows // self.group)
        return groups * columns * (2 if self.offset else 1)

    def encode(self, W: Float[Tensor, "rows columns"], bits: int) -> Codes:
        """Every number at the nearest point of its group's grid."""
        levels = [(self.levels(part, bits), part) for part in W.split(self.group or len(W))]
        return self.codes([(each, each.nearest(part)) for each, part in levels], bits)

    def codes(self, groups: Sequence[tuple[Levels, Tensor]], bits: int) -> Codes:
        """A matrix whose groups of rows have these levels, and these numbers q on them."""
        q, scale, offset = (
            torch.cat(parts) for parts in zip(*((q, each.scale, each.offset) for each, q in groups), strict=True)
        )
        zero = 0 if self.offset else 2 ** (bits - 1) - 1
        return Codes(q.to(torch.int32) + zero, scale, offset if self.offset else None, bits, zero, self.group or len(q))

    def round(self, W: Float[Tensor, "rows columns"], bits: int) -> Float[Tensor, "rows columns"]:
        """The values of `encode`."""
        return self.encode(W, bits).values()

    def levels(self, W: Float[Tensor, "rows columns"], bits: int) -> Levels:
        """The grid of rows that share their scales."""
        if not self.clip:
            return self._levels(W, bits, 1.0)
        best, least = self._levels(W, bits, 1.0), torch.full_like(W[:1], torch.inf)
        for share in CLIPPED:
            tried = self._levels(W, bits, share)
            error = (tried.values(tried.nearest(W)) - W).square().sum(0, keepdim=True)
            better = error < least
            least = torch.where(better, error, least)
            scale, offset = (
                torch.where(better, new, old) for new, old in ((tried.scale, best.scale), (tried.offset, best.offset))
            )
            best = replace(best, scale=scale, offset=offset)
        return best

    def _levels(self, W: Tensor, bits: int, share: float) -> Levels:
        if not self.offset:
            most = 2 ** (bits - 1) - 1
            scale = stored_scale(share * W.abs().amax(0, keepdim=True) / most)
            return Levels(scale, torch.zeros_like(scale), -most, most)
        low, high = share * W.amin(0, keepdim=True), share * W.amax(0, keepdim=True)
        most = 2**bits - 1
        return Levels(stored_scale((high - low) / most), stored_scale(low), 0, most)


@dataclass(frozen=True)
class Levels:
    """The points offset + scale · q, q an integer from `least` to `most`, of rows that share their scales."""

    scale: Float[Tensor, "1 columns"]
    offset: Float[Tensor, "1 columns"]
    least: int
    most: int

    def nearest(self, W: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """The q of the nearest points."""
        return ((W - self.offset) / self.scale.clamp(min=1e-300)).round().clamp(self.least, self.most)

    def values(self, q: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """The points themselves."""
        return self.offset + self.scale * q


@dataclass(frozen=True)
class Codes:
    """A rounded matrix as it is stored: offset + scale · (q − zero).

    Attributes:
        q: integers from 0 to 2^bits − 1. scale, offset: one for each `group` of rows, as bfloat16 holds them; a
            symmetric grid has no offset, and `zero` in the middle.
    """

    q: Int[Tensor, "rows columns"]
    scale: Float[Tensor, "groups columns"]
    offset: Float[Tensor, "groups columns"] | None
    bits: int
    zero: int
    group: int

    def values(self) -> Float[Tensor, "rows columns"]:
        """The numbers that are read back."""

        def by_row(each: Tensor) -> Tensor:
            return each.repeat_interleave(self.group, 0)[: len(self.q)]

        scaled = by_row(self.scale) * (self.q - self.zero)
        return scaled if self.offset is None else by_row(self.offset) + scaled


def gptq(W: Float[Tensor, "rows columns"], H: Float[Tensor, "rows rows"], grid: Grid, bits: int) -> Codes:
    """W rounded for a small E ‖(W − Ŵ)ᵀ x‖², with H = E x xᵀ (Frantar, Ashkboos, Hoefler and Alistarh 2023).

    Row after row is rounded to its grid. The rows still to come make up for its error, in the proportion of the
    Cholesky factor of H⁻¹. A group's scales are taken from its rows as they stand when it begins.
    """
    U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    left, groups = W.clone(), []
    for rows in torch.arange(len(W)).split(grid.group or len(W)):
        first, end = int(rows[0]), int(rows[-1]) + 1
        levels = grid.levels(left[first:end], bits)
        q, off = torch.empty_like(left[first:end]), torch.empty_like(left[first:end])
        for i in range(first, end):
            nearest = levels.nearest(left[i : i + 1])
            q[i - first], off[i - first] = nearest[0], (left[i] - levels.values(nearest)[0]) / U[i, i]
            left[i + 1 : end] -= torch.outer(U[i, i + 1 : end], off[i - first])
        left[end:] -= U[first:end, end:].T @ off
        groups.append((levels, q))
    return grid.codes(groups, bits)


def stored_scale(scale: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Scales as they are stored: in bfloat16."""
    return scale.bfloat16().to(scale.dtype)

"""Tucker decomposition of the heads' W_Q and W_K as one tensor, a layer or the whole model at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Numbers, Problem, bias_parameters, frame_parameters
from permeation.rivals.low_rank import Metric, metric_roots
from permeation.weights.heads import Heads, each_layer
from permeation.weights.moments import roots

MODES = 3  # heads, d_model, d_head


@dataclass(frozen=True)
class Tucker(Numbers):
    """T ≈ core ×₁ U ×₂ P ×₃ V for T = W_Q and W_K of a group of heads, (heads + kv_heads, d_model, d_head).

    Truncated higher-order SVD (De Lathauwer, De Moor and Vandewalle 2000): each frame holds the leading singular
    vectors of an unfolding of T. One number, the size, gives all ranks: the singular values σ of all unfoldings and
    groups stand in one line, ordered by σ² over the numbers that a dimension costs at full ranks, the largest first.
    The first `size` of the line are kept, and of each unfolding at least one. In the score metric T is S^½ W (of the
    whole model: S̄^½ W with the mean S of its layers, as one frame needs one metric) and P is mapped back by S^−½.

    It approximates the weights as they are and leaves the coordinates of queries and keys alone, so it is exact for
    rotary models at full size. Stored: Σ_groups r₁ r₂ r₃ + frame(h, r₁) + frame(d_model, r₂) + frame(d_head, r₃), with
    frame(n, r) = r (n − r) + min(r, n − r), + biases; at full ranks, just the original.

    Attributes:
        heads: the untouched weights. tensor: T of the groups. frames: of the three modes, all vectors.
        inverse: S^−½ of the groups.
        order: the place of each (group, mode, index) in the line; it is kept where its place is below the size.
    """

    heads: Heads
    tensor: Float[Tensor, "groups h d_model d_head"]
    frames: tuple[Tensor, ...]
    inverse: Float[Tensor, "groups d_model d_model"]
    order: tuple[Tensor, ...]

    @classmethod
    def fit(cls, problem: Problem, group: Literal["layer", "model"], metric: Metric) -> Tucker:
        """The frames from the eigenvectors of each unfolding's Gram matrix."""
        T = torch.cat([problem.heads.W_Q, problem.heads.W_K], dim=1)
        root, inverse = metric_roots(problem, metric)
        if group == "model":
            T = T.flatten(0, 1)[None]
            S = problem.moments.shrunk.mean(0, keepdim=True)
            root, inverse = (root[:1], inverse[:1]) if metric == "plain" else roots(S)
        T = each_layer(root, T)
        frames, priority = [], []
        for mode in range(1, 1 + MODES):
            unfolded = T.movedim(mode, 1).flatten(2)
            values, vectors = torch.linalg.eigh(unfolded @ unfolded.mT)
            frames.append(vectors.flip(2))
            gain = values.flip(1).clamp(min=0) / (T[0].numel() / T.shape[mode])
            gain[:, 0] = torch.inf
            priority.append(gain)
        sizes = [gain.numel() for gain in priority]
        line = torch.cat([gain.flatten() for gain in priority]).argsort(descending=True, stable=True).argsort()
        order = (part.view_as(gain) for part, gain in zip(line.split(sizes), priority, strict=True))
        return cls(problem.heads, T, tuple(frames), inverse, tuple(order))

    @property
    def smallest(self) -> int:
        """Rank 1 in each mode of each group."""
        return MODES * len(self.tensor)

    @property
    def largest(self) -> int:
        """Full ranks."""
        return sum(part.numel() for part in self.order)

    def stored_parameters(self, size: int) -> int:
        total = bias_parameters(self.heads)
        shape = self.tensor.shape[1:]
        for ranks in self._ranks(size):
            total += ranks[0] * ranks[1] * ranks[2]
            total += sum(frame_parameters(n, r) for n, r in zip(shape, ranks, strict=True))
        return total

    def apply(self, size: int) -> Heads:
        """The core in the kept vectors of every mode, unwhitened."""
        return self.assembled(*self.factors(size))

    def factors(self, size: int) -> tuple[Tensor, ...]:
        """The frames, that of d_model unwhitened, and the core with heads and d_head as one axis."""
        kept = [frame * (place < size)[:, None] for frame, place in zip(self.frames, self.order, strict=True)]
        core = self.tensor
        for mode, frame in enumerate(kept, start=1):
            core = _times(frame.mT, core, mode)
        heads, d_model, d_head = kept
        return heads, self.inverse @ d_model, d_head, core.movedim(2, 3).flatten(1, 2)

    def assembled(self, *factors: Tensor) -> Heads:
        """The core times the frames."""
        *frames, core = factors
        T = core.unflatten(1, (frames[0].shape[2], -1)).movedim(2, 3)
        for mode, frame in enumerate(frames, start=1):
            T = _times(frame, T, mode)
        n_heads = self.heads.W_Q.shape[1]
        W = T.reshape(len(self.heads.W_Q), -1, *T.shape[2:])
        return Heads(W[:, :n_heads], W[:, n_heads:], self.heads.b_Q, self.heads.b_K)

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """Σ_groups r₁ r₂ r₃ + Σ_modes n r numbers, in r₁ + 2 r₂ + r₃ columns a group."""
        numbers = columns = 0
        for ranks in self._ranks(size):
            numbers += ranks[0] * ranks[1] * ranks[2]
            numbers += sum(n * r for n, r in zip(self.tensor.shape[1:], ranks, strict=True))
            columns += sum(ranks) + ranks[1]
        return numbers, columns

    def _ranks(self, size: int) -> Iterator[tuple[int, ...]]:
        return zip(*((part < size).sum(1).tolist() for part in self.order), strict=True)


def _times(M: Float[Tensor, "groups k n"], T: Float[Tensor, "groups *axes"], mode: int) -> Tensor:
    """T ×_mode M: the axis `mode` of T multiplied by M."""
    moved = T.movedim(mode, 1)
    return (M @ moved.flatten(2)).unflatten(2, moved.shape[2:]).movedim(1, mode)

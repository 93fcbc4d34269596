"""Tucker decomposition of the heads' W_Q and W_K as one tensor, a layer or the whole model at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Factored, Problem, bias_parameters, frame_parameters
from permeation.rivals.low_rank import Metric, metric_of, unwhitened
from permeation.weights.heads import Heads, each_layer, gathered
from permeation.weights.moments import triangular_root

MODES = 3  # heads, d_model, d_head


@dataclass(frozen=True)
class Tucker(Factored):
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
        heads: the untouched weights. core: of the groups, at full ranks. frames: of the three modes, all vectors, P
            mapped back.
        order: the place of each (group, mode, index) in the line; it is kept where its place is below the size.
    """

    heads: Heads
    core: Float[Tensor, "groups h d_model d_head"]
    frames: tuple[Tensor, ...]
    order: tuple[Tensor, ...]

    @classmethod
    def fit(cls, problem: Problem, group: Literal["layer", "model"], metric: Metric) -> Tucker:
        """The frames from the eigenvectors of each unfolding's Gram matrix."""
        layers = len(problem.heads.W_Q)
        groups: Iterable[tuple[Tensor, Tensor]]
        if group == "model":
            S = reduce(torch.add, (metric_of(layer, metric) for layer in problem.layers())) / layers
            (T,) = gathered(((_tensor(layer),) for layer in problem.layers()), layers)
            groups, layers = [(T.flatten(0, 1)[None], S)], 1
        else:
            groups = ((_tensor(layer), metric_of(layer, metric)) for layer in problem.layers())
        core, *found = gathered((_decomposed(T, S) for T, S in groups), layers)
        frames, priority = found[:MODES], found[MODES:]
        sizes = [gain.numel() for gain in priority]
        line = torch.cat([gain.flatten() for gain in priority]).argsort(descending=True, stable=True).argsort()
        order = (part.view_as(gain) for part, gain in zip(line.split(sizes), priority, strict=True))
        return cls(problem.heads, core, tuple(frames), tuple(order))

    @property
    def smallest(self) -> int:
        """Rank 1 in each mode of each group."""
        return MODES * len(self.core)

    @property
    def largest(self) -> int:
        """Full ranks."""
        return sum(part.numel() for part in self.order)

    def stored_parameters(self, size: int) -> int:
        total = bias_parameters(self.heads)
        shape = self.core.shape[1:]
        for ranks in self._ranks(size):
            total += ranks[0] * ranks[1] * ranks[2]
            total += sum(frame_parameters(n, r) for n, r in zip(shape, ranks, strict=True))
        return total

    def factors(self, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The frames of each group, and the core with heads and d_head as one axis."""
        for i, core in enumerate(self.core.split(1)):
            kept = [order[i : i + 1] < size for order in self.order]
            heads, d_model, d_head = (frame[i : i + 1] * k[:, None] for frame, k in zip(self.frames, kept, strict=True))
            core = core * kept[0][:, :, None, None] * kept[1][:, :, None] * kept[2][:, None, None]
            yield heads, d_model, d_head, core.movedim(2, 3).flatten(1, 2)

    def assembled(self, factors: Iterable[tuple[Tensor, ...]]) -> Heads:
        """The core times the frames."""

        def multiplied(*frames: Tensor, core: Tensor) -> Tensor:
            T = core.unflatten(1, (frames[0].shape[2], -1)).movedim(2, 3)
            for mode, frame in enumerate(frames, start=1):
                T = _times(frame, T, mode)
            return T

        (T,) = gathered(((multiplied(*frames, core=core),) for *frames, core in factors), len(self.core))
        n_heads = self.heads.W_Q.shape[1]
        W = T.reshape(len(self.heads.W_Q), -1, *T.shape[2:])
        return Heads(W[:, :n_heads], W[:, n_heads:], self.heads.b_Q, self.heads.b_K)

    def factor_sizes(self, size: int) -> tuple[int, int]:
        """Σ_groups r₁ r₂ r₃ + Σ_modes n r numbers, in r₁ + 2 r₂ + r₃ columns a group."""
        numbers = columns = 0
        for ranks in self._ranks(size):
            numbers += ranks[0] * ranks[1] * ranks[2]
            numbers += sum(n * r for n, r in zip(self.core.shape[1:], ranks, strict=True))
            columns += sum(ranks) + ranks[1]
        return numbers, columns

    def _ranks(self, size: int) -> Iterator[tuple[int, ...]]:
        return zip(*((part < size).sum(1).tolist() for part in self.order), strict=True)


def _tensor(layer: Problem) -> Float[Tensor, "1 h d_model d_head"]:
    return torch.cat([layer.heads.W_Q, layer.heads.W_K], dim=1)


def _decomposed(T: Float[Tensor, "1 h d_model d_head"], S: Float[Tensor, "1 d_model d_model"]) -> tuple[Tensor, ...]:
    """Core and frames at full ranks, and what each vector of each frame gains for a number."""
    F = triangular_root(S)
    core = T = each_layer(F, T)
    frames, priority = [], []
    for mode in range(1, 1 + MODES):
        unfolded = T.movedim(mode, 1).flatten(2)
        values, vectors = torch.linalg.eigh(unfolded @ unfolded.mT)
        frames.append(vectors.flip(2))
        core = _times(frames[-1].mT, core, mode)
        gain = values.flip(1).clamp(min=0) / (T[0].numel() / T.shape[mode])
        gain[:, 0] = torch.inf
        priority.append(gain)
    heads, d_model, d_head = frames
    return core, heads, unwhitened(F, d_model), d_head, *priority


def _times(M: Float[Tensor, "groups k n"], T: Float[Tensor, "groups *axes"], mode: int) -> Tensor:
    """T ×_mode M: the axis `mode` of T multiplied by M."""
    moved = T.movedim(mode, 1)
    return (M @ moved.flatten(2)).unflatten(2, moved.shape[2:]).movedim(1, mode)

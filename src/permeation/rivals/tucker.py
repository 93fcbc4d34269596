"""Tucker decomposition of the heads' W_Q and W_K as one tensor, a layer or the whole model at a time."""

from __future__ import annotations

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
        for ranks in zip(*((part < size).sum(1).tolist() for part in self.order), strict=True):
            total += ranks[0] * ranks[1] * ranks[2]
            total += sum(frame_parameters(n, r) for n, r in zip(shape, ranks, strict=True))
        return total

    def apply(self, size: int) -> Heads:
        """T projected onto the kept vectors of every mode, and unwhitened."""
        T = self.tensor
        for mode, (frame, place) in enumerate(zip(self.frames, self.order, strict=True), start=1):
            kept = frame * (place < size)[:, None]
            T = (kept @ (kept.mT @ T.movedim(mode, 1).flatten(2))).view(T.movedim(mode, 1).shape).movedim(1, mode)
        W = each_layer(self.inverse, T).reshape(len(self.heads.W_Q), -1, *T.shape[2:])
        n_heads = self.heads.W_Q.shape[1]
        return Heads(W[:, :n_heads], W[:, n_heads:], self.heads.b_Q, self.heads.b_K)

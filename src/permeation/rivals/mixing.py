"""Heads rebuilt from what they share: principal components of W_QK, random ones, clusters.

The heads' gram forms become mixtures of the heads' own, M̂ = R M, by W_Q alone. The keys stay and count as stored. So do
the coordinates that rotary positions turn: the model has M̂ at distance 0, and turns it as it turns the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Numbers, Problem, bias_parameters
from permeation.weights.cluster import k_means, sharing
from permeation.weights.forms import gram_kernel
from permeation.weights.heads import Heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca, fit_pca


@dataclass(frozen=True)
class GramMixing(Numbers):
    """Mixtures of the gram forms W_Qᵀ W_K, injected as GramInjection does.

    `components`: principal components, and the mean where `center`; with none of them the mean head alone. `random`:
    random components, a control. `clusters`: one form for each group of k-means.

    The gram form does not see the part of W_Q outside the span of W_K, so that is stored as well: (d_model − d_head)
    d_head numbers a head. Stored: W_K + n (d_model − d_head) d_head + biases, and (K + 1) d_head² + n K, with the mean
    as the + 1, or k d_head² + n. With the mean alone that is n d_head² − d_head² numbers less than the original (92 %
    are left for SmolLM2-135M); from K = (n − 1) d_head² / (d_head² + n) on it is more than the original.

    Attributes:
        injection: finds W_Q. mixing: gives R for a size. cost: numbers that a size stores inside the span.
    """

    injection: GramInjection
    mixing: Callable[[int], Float[Tensor, "n n"]]
    cost: Callable[[int], int]
    smallest: int
    largest: int

    @classmethod
    def fit(
        cls,
        problem: Problem,
        kind: Literal["components", "random", "clusters"] = "components",
        center: bool = True,
        components: int | None = None,
    ) -> GramMixing:
        """Factorise W_K, eigendecompose the kernel; components: that k-means sees, as in params.yaml."""
        injection, form, n = GramInjection.fit(problem.heads), problem.heads.W_Q.shape[3] ** 2, problem.heads.count
        pca = _random_components(n, problem.seed) if kind == "random" else fit_pca(gram_kernel(problem.heads), center)
        if kind == "clusters":
            mixing = partial(_shared, pca.coefficients[:, :components].numpy(), problem.seed)
            return cls(injection, mixing, lambda k: k * form + n, 1, n)
        return cls(injection, pca.mixing, lambda K: (K + center) * form + n * K, 0 if center else 1, n - center)

    def stored_parameters(self, size: int) -> int:
        heads = self.injection.heads
        outside = heads.count * (heads.W_Q.shape[2] - heads.W_Q.shape[3]) * heads.W_Q.shape[3]
        return heads.W_K.numel() + outside + self.cost(size) + bias_parameters(heads)

    def apply(self, size: int) -> Heads:
        """The W_Q with the mixed gram forms."""
        heads = self.injection.heads
        return Heads(self.injection.mixed(self.mixing(size)), heads.W_K, heads.b_Q, heads.b_K)


def _random_components(n: int, seed: int) -> KernelPca:
    """Components in uniformly random directions of the space of heads, orthogonal to the mean."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n, n, dtype=torch.float64, generator=generator)
    start[:, 0] = 1
    vectors = torch.linalg.qr(start).Q.roll(-1, dims=1)
    return KernelPca(torch.ones(n, dtype=torch.float64), vectors, centred=True)


def _shared(points: Float[np.ndarray, "n _components"], seed: int, k: int) -> Float[Tensor, "n n"]:
    return sharing(k_means(points, k, seed))

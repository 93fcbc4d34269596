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
from permeation.weights.cluster import Share, k_means
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

    `first_kept`: the heads of the first layer stay as they are, with d_head² numbers each in place of K.

    Attributes:
        injection: finds W_Q. mixing: gives R for a size. cost: numbers that these many heads store inside the span, at
            a size. first_kept: as above.
    """

    injection: GramInjection
    mixing: Callable[[int], Float[Tensor, "n n"]]
    cost: Callable[[int, int], int]
    smallest: int
    largest: int
    first_kept: bool

    @classmethod
    def fit(
        cls,
        problem: Problem,
        kind: Literal["components", "random", "clusters"] = "components",
        first_kept: bool = False,
        center: bool = True,
        share: Share = "centroid",
        components: int | None = None,
    ) -> GramMixing:
        """Factorise W_K, eigendecompose the kernel; share, and components that k-means sees, as in params.yaml."""
        injection, pca = GramInjection.fit(problem.heads), fit_pca(gram_kernel(problem.heads), center)
        form, n = problem.heads.W_Q.shape[3] ** 2, pca.count
        if kind == "clusters":
            points = pca.coefficients[:, :components].numpy()
            mixing = partial(_shared, points, problem.seed, share)
            return cls(injection, mixing, lambda k, heads: k * form + heads, 1, n, first_kept)
        if kind == "random":
            pca = _random_components(n, problem.seed)
        cost = partial(_cost_of_components, form, center)
        return cls(injection, pca.mixing, cost, 0 if center else 1, n - center, first_kept)

    def stored_parameters(self, size: int) -> int:
        heads = self.injection.heads
        n, (d_model, d_head) = heads.count, heads.W_Q.shape[2:]
        outside = n * (d_model - d_head) * d_head
        own = heads.W_Q.shape[1] if self.first_kept else 0
        inside = self.cost(size, n - own) + own * d_head**2
        return heads.W_K.numel() + outside + inside + bias_parameters(heads)

    def apply(self, size: int) -> Heads:
        """The W_Q with the mixed gram forms."""
        heads = self.injection.heads
        W_Q = self.injection.mixed(self.mixing(size))
        if self.first_kept:
            W_Q[0] = heads.W_Q[0]
        return Heads(W_Q, heads.W_K, heads.b_Q, heads.b_K)


def _random_components(n: int, seed: int) -> KernelPca:
    """Components in uniformly random directions of the space of heads, orthogonal to the mean."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n, n, dtype=torch.float64, generator=generator)
    start[:, 0] = 1
    vectors = torch.linalg.qr(start).Q.roll(-1, dims=1)
    return KernelPca(torch.ones(n, dtype=torch.float64), vectors, centred=True)


def _shared(points: Float[np.ndarray, "n _components"], seed: int, share: Share, k: int) -> Float[Tensor, "n n"]:
    return k_means(points, k, seed).mixing(share)


def _cost_of_components(form: int, center: bool, size: int, heads: int) -> int:
    return (size + center) * form + heads * size

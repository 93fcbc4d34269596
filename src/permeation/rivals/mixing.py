"""Heads rebuilt from what they share: principal components of W_QK, random ones, the mean head, clusters.

All of them replace the heads' W_QK by mixtures of the heads' own, M̂ = R M, and find the W_Q that give M̂ with the keys
as they are. The keys count as stored. So the coordinates that rotary positions turn stay: with R = 1 every model comes
back; with other R the model has M̂ at distance 0, and turns it as it turns the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Numbers, Problem, bias_parameters
from permeation.weights.cluster import Share, k_means
from permeation.weights.forms import circuit_kernel, circuit_rows, gram_kernel
from permeation.weights.heads import Heads, biases_as_rows, each_layer, gathered
from permeation.weights.inject import GramInjection
from permeation.weights.moments import triangular_root
from permeation.weights.pca import KernelPca, fit_pca


@dataclass(frozen=True)
class GramMixing(Numbers):
    """Mixtures of the gram forms W_Qᵀ W_K, injected as GramInjection does.

    `components`: principal components, and the mean where `center`. `clusters`: one form for each group of k-means.

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
        kind: Literal["components", "clusters"] = "components",
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


@dataclass(frozen=True)
class CircuitMixing(Numbers):
    """Mixtures of the circuit forms A = W_Q W_Kᵀ: W̃_Q = Â C W_K (W_Kᵀ C W_K)⁻¹, the best W_Q for Â with these keys.

    Best in ‖S^½ (W̃_Q W_Kᵀ − Â) C^½‖_F, with C = 1, or in the score metric C = S̄, the mean over the layers of the
    second moments of their inputs, with biases as one more row: components in one common metric need no whiteners to be
    read back (one a layer would cost d_model² numbers each, more than most budgets).

    `score`: principal components in the score metric. `random`: random components. `mean`: the mean head alone.
    `medoid`: k-means, each head with the A of the head nearest to its cluster's mean.

    Stored, with d = d_model (+ 1 with bias rows), n heads, and W_K with its biases (and b_Q where it is no row) in
    each: K components and the mean (K + 1) d² + n K; k medoids k d d_head + n. A d × d component costs as much as the
    W_Q of d / d_head heads, so from about n d_head / d components on it is more than the original.

    Attributes:
        heads: the untouched weights. rows: the same, in the score metric with their biases as one more row.
        dual: C W_K (W_Kᵀ C W_K)⁻¹ of every key head. mixing: gives R for a size. cost: the numbers of a size, without
            those of W_K and the biases.
    """

    heads: Heads
    rows: Heads
    dual: Float[Tensor, "keys d d_head"]
    mixing: Callable[[int], Float[Tensor, "n n"]]
    cost: Callable[[int], int]
    smallest: int
    largest: int

    @classmethod
    def fit(cls, problem: Problem, kind: Literal["score", "random", "mean", "medoid"]) -> CircuitMixing:
        """Factorise the keys; find the components, or the coordinates in which heads are clustered."""
        heads, score = problem.heads, kind == "score"
        rows = biases_as_rows(heads) if score else heads
        n, (d, d_head) = heads.count, rows.W_Q.shape[2:]
        C = torch.eye(d, dtype=torch.float64)[None]
        if score:
            each = (of.shrunk if heads.b_Q is None else of.augmented for of in problem.moments.layers())
            C = reduce(torch.add, each) / len(heads.W_Q)
        keys = rows.W_K.double().flatten(0, 1)
        projected = keys.mT @ C[0]
        dual = torch.linalg.solve(projected @ keys, projected).mT
        if kind in ("random", "mean"):  # the mean alone is the same for all components
            pca = _random_components(n, problem.seed)
        else:
            F = triangular_root(C)
            white = ((each_layer(F, layer.W_Q), each_layer(F, layer.W_K)) for layer in rows.layers())
            pca = fit_pca(circuit_kernel(Heads(*gathered(white, len(heads.W_Q)))), center=True)
        if kind == "medoid":
            points = pca.coefficients.numpy()
            mixing = partial(_shared, points, problem.seed, "medoid")
            return cls(heads, rows, dual, mixing, lambda k: k * d * d_head + n, 1, n)
        largest = 0 if kind == "mean" else n - 1
        return cls(heads, rows, dual, pca.mixing, lambda k: (k + 1) * d * d + n * k, 0, largest)

    def stored_parameters(self, size: int) -> int:
        as_rows = self.rows.W_Q.shape[2] > self.heads.W_Q.shape[2]
        stays = bias_parameters(self.heads) - (self.heads.W_Q[..., 0, :].numel() if as_rows else 0)  # b_Q is in W_Q
        return self.heads.W_K.numel() + stays + self.cost(size)

    def apply(self, size: int) -> Heads:
        """W̃_Q of every head, some rows of d_model at a time."""
        R, which = self.mixing(size).unique(dim=0, return_inverse=True)  # heads of one cluster have one mixture
        parts = []
        for rows in circuit_rows(self.rows):
            mixed = (R @ rows.flatten(1))[which].view(len(self.dual), -1, rows.shape[2])  # the heads of a group in one
            parts.append((mixed @ self.dual).view(len(which), rows.shape[1], -1))
        heads = self.heads
        W_Q = torch.cat(parts, dim=1).unflatten(0, heads.W_Q.shape[:2])
        d_model = heads.W_Q.shape[2]
        b_Q = heads.b_Q if W_Q.shape[2] == d_model else W_Q[:, :, d_model]
        return Heads(W_Q[:, :, :d_model], heads.W_K, b_Q, heads.b_K)


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

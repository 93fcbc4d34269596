"""Do heads share more in what they write, W_OV = W_V W_O, than in where they look, W_QK = W_Q W_Kᵀ?

W_OVᵀ = W_Oᵀ W_Vᵀ has the circuit form of heads whose queries are W_Oᵀ and whose keys are W_V, so that its kernel, its
random heads and its clusters are those of W_QK. A bias of W_V moves what is written by a constant and stays out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.models.families import attention_outputs, attention_views
from permeation.weights.cluster import k_means
from permeation.weights.forms import circuit_kernel, score_kernel
from permeation.weights.heads import Heads, each_layer, read_heads
from permeation.weights.moments import Moments
from permeation.weights.pca import KernelPca, fit_pca
from permeation.weights.random_heads import random_heads, random_score_kernel, unit_norm

SHARES = (0.5, 0.8, 0.9)


def writing_heads(model: Any) -> Heads:
    """W_Oᵀ as queries and W_V as keys, of a model with folded norms; heads of a group share W_V as they share W_K."""
    W_O = torch.stack([layer.W_O.mT for layer in attention_outputs(model)])
    return Heads(W_O.cpu(), torch.stack([layer.W_V for layer in attention_views(model)]).cpu())


def written_kernel(heads: Heads, moments: Moments) -> Float[Tensor, "n n"]:
    """⟨S_i^½ W_OVi, S_j^½ W_OVj⟩_F of writing heads: ‖S^½ W_OV‖²_F = E ‖W_OVᵀ x‖², what a head writes of its input."""
    W_V = each_layer(moments.shrunk_root, heads.W_K.double())
    return circuit_kernel(Heads(heads.W_Q.double(), W_V))


def sharing(model: Any, moments: Moments, clusters: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for W_QK and W_OV, as they are and weighted by what they read, of the heads and of random ones.

    components: principal components for each of SHARES of the variance. clustered: the share of the variance that lies
    between so many clusters of k-means. Random heads have the heads' singular values, and in the weighted forms their
    norms; they read the same inputs (permeation.weights.random_heads).
    """
    looks, writes = read_heads(model), writing_heads(model)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    looks_score, writes_score = score_kernel(looks, moments), written_kernel(writes, moments)
    norm = writes_score.diagonal().sqrt()
    writes_null = unit_norm(written_kernel(random_heads(writes, generator()), moments)) * norm[:, None] * norm
    kernels = {
        ("W_QK", "circuit"): (circuit_kernel(looks), circuit_kernel(random_heads(looks, generator()))),
        ("W_OV", "circuit"): (circuit_kernel(writes), circuit_kernel(random_heads(writes, generator()))),
        ("W_QK", "weighted"): (looks_score, random_score_kernel(looks, moments, looks_score, generator())),
        ("W_OV", "weighted"): (writes_score, writes_null),
    }
    for (matrix, form), both in kernels.items():
        for heads, kernel in zip(("own", "random"), both, strict=True):
            for scaled, of in (("as they are", kernel), ("unit norm", unit_norm(kernel))):
                pca = fit_pca(of, center=True)
                found = {"clustered": between_clusters(pca, clusters, seed), "components": pca.share_table(SHARES)}
                yield {"matrix": matrix, "form": form, "heads": heads, "norms": scaled, **found}


def between_clusters(pca: KernelPca, k: int, seed: int) -> float:
    """The share of the heads' variance that lies between k clusters: tr R C Cᵀ / tr C Cᵀ, with C the coefficients."""
    C = pca.coefficients
    R = k_means(C.numpy(), k, seed).mixing("centroid")
    return float((R @ C).square().sum() / C.square().sum())

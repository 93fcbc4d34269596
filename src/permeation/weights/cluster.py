"""Heads grouped by k-means, all members of a group sharing their mean W_QK: M̂ = R M.

R_ij = 1 / |group of i| for j in it, else 0.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor

from permeation.weights.pca import KernelPca


def k_means(coefficients: Float[np.ndarray, "n components"], k: int, seed: int) -> Int[np.ndarray, "n"]:
    """Each head's group, 0 … k − 1; fewer where fewer heads differ.

    Lloyd's k-means on the heads' PCA coefficients, the best of ten k-means++ starts (scikit-learn).
    """
    labels = KMeans(n_clusters=k, n_init=10, random_state=seed).fit_predict(coefficients)
    # Which group has which number is chance: here they are numbered in the order of their first heads.
    _, first, groups = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[groups]


def sharing(labels: Int[np.ndarray, "n"]) -> Float[Tensor, "n n"]:
    """R: each head takes its group's mean."""
    member = torch.from_numpy(labels[:, None] == labels).double()
    return member / member.sum(dim=1, keepdim=True)


def between_clusters(pca: KernelPca, k: int, seed: int) -> float:
    """The share of the heads' variance that lies between k clusters: ‖R C‖² / ‖C‖², with C the coefficients."""
    C = pca.coefficients
    return float((sharing(k_means(C.numpy(), k, seed)) @ C).square().sum() / C.square().sum().clamp(min=1e-300))

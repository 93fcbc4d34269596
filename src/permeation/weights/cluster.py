"""Heads grouped by k-means, all members of a group sharing one W_QK: M̂ = R M.

R_ij = 1 / |group of i| for j in it (centroid), or 1 for j the member nearest to the group's mean (medoid).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from permeation.weights.pca import KernelPca

Share = Literal["centroid", "medoid"]


@dataclass(frozen=True)
class Clusters:
    """A partition of n heads into k groups.

    Attributes:
        labels: each head's group, 0 … k − 1. medoids: the head nearest to each group's mean. Where fewer heads
            differ there are fewer groups.
    """

    labels: Int[np.ndarray, "n"]
    medoids: Int[np.ndarray, "k"]

    def mixing(self, share: Share) -> Float[Tensor, "n n"]:
        """R: each head takes its group's mean (centroid) or the member nearest to it (medoid)."""
        member = torch.from_numpy(self.labels[:, None] == self.labels[None, :]).double()
        if share == "centroid":
            return member / member.sum(dim=1, keepdim=True)
        return torch.eye(len(member), dtype=torch.float64)[self.medoids[self.labels]]


def k_means(coefficients: Float[np.ndarray, "n components"], k: int, seed: int) -> Clusters:
    """Lloyd's k-means on the heads' PCA coefficients, the best of ten k-means++ starts (scikit-learn)."""
    fitted = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(coefficients)
    # Which group has which number is chance: here they are numbered in the order of their first heads.
    found, first, groups = np.unique(fitted.labels_, return_index=True, return_inverse=True)
    order = np.argsort(first)
    labels = np.argsort(order)[groups]
    distance = fitted.transform(coefficients)[:, found[order]]
    distance[labels[:, None] != np.arange(len(found))] = np.inf
    return Clusters(labels, distance.argmin(axis=0))


def between_clusters(pca: KernelPca, k: int, seed: int) -> float:
    """The share of the heads' variance that lies between k clusters: ‖R C‖² / ‖C‖², with C the coefficients."""
    C = pca.coefficients
    R = k_means(C.numpy(), k, seed).mixing("centroid")
    return float((R @ C).square().sum() / C.square().sum())


def compare_forms(groups: Mapping[int, Mapping[str, Clusters]], per_layer: int) -> dict[str, dict[str, float]]:
    """How alike the groups of two forms are, <one>_<other>.<k>: the adjusted Rand index of both partitions.

    1 for the same, 0 on average by chance. The layers are a partition too.
    """
    agreement: dict[str, dict[str, float]] = {}
    for k, by_form in groups.items():
        labels = {form: found.labels for form, found in by_form.items()}
        labels["layer"] = np.arange(len(labels["gram"])) // per_layer
        for one, other in combinations(labels, 2):
            index = float(adjusted_rand_score(labels[one], labels[other]))
            agreement.setdefault(f"{one}_{other}", {})[str(k)] = index
    return agreement


def head_rows(forms: Mapping[str, KernelPca], groups: Mapping[str, Clusters], per_layer: int) -> list[dict[str, Any]]:
    """Each head's layer, first coefficient and group, in each form."""
    return [
        {"form": form, "layer": i // per_layer, "head": i % per_layer}
        | {"component_1": x, "cluster": int(groups[form].labels[i])}
        for form, pca in forms.items()
        for i, x in enumerate(pca.coefficients[:, 0].tolist())
    ]

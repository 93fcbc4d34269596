"""Heads grouped by k-means, all members of a group sharing one W_QK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import Tensor

Share = Literal["centroid", "medoid"]


@dataclass(frozen=True)
class Clusters:
    """A partition of n heads into k groups.

    Attributes:
        labels: each head's group, 0 … k − 1.
        medoids: the head nearest to each group's mean.
    """

    labels: Int[np.ndarray, "n"]
    medoids: Int[np.ndarray, "k"]

    def mixing(self, share: Share) -> Float[Tensor, "n n"]:
        """R with M̂ = R M: each head takes its group's mean (centroid) or the member nearest to it (medoid)."""
        member = torch.from_numpy(self.labels[:, None] == self.labels[None, :]).double()
        if share == "centroid":
            return member / member.sum(dim=1, keepdim=True)
        return torch.eye(len(member), dtype=torch.float64)[self.medoids[self.labels]]

    def replaced(self, share: Share) -> int:
        """How many heads get another W_QK than their own."""
        alone = np.bincount(self.labels)[self.labels] == 1
        own = alone if share == "centroid" else self.medoids[self.labels] == np.arange(len(self.labels))
        return int((~own).sum())


def k_means(coefficients: Float[np.ndarray, "n components"], k: int, seed: int) -> Clusters:
    """Lloyd's k-means on the heads' PCA coefficients, the best of ten k-means++ starts (scikit-learn)."""
    fitted = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(coefficients)
    distance = fitted.transform(coefficients)
    distance[fitted.labels_[:, None] != np.arange(k)] = np.inf
    return Clusters(fitted.labels_.astype(np.int64), distance.argmin(axis=0))


def agreement(partitions: Mapping[str, Int[np.ndarray, "n"]]) -> dict[str, float]:
    """The adjusted Rand index of each two partitions, keyed `<one>_<other>`: 1 for the same, 0 on average by chance."""
    return {
        f"{one}_{other}": float(adjusted_rand_score(partitions[one], partitions[other]))
        for one, other in combinations(partitions, 2)
    }


def silhouette(coefficients: Float[np.ndarray, "n components"], labels: Int[np.ndarray, "n"]) -> float | None:
    """Mean silhouette of the heads in their coefficients, −1 to 1; None where it has no meaning (1 or n clusters)."""
    if not 1 < len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(coefficients, labels))

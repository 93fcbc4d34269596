"""Heads grouped by k-means, all members of a group sharing one W_QK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import Tensor

from permeation.weights.pca import KernelPca

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
    # Which group has which number is chance: here they are numbered in the order of their first heads.
    order = np.argsort(np.unique(fitted.labels_, return_index=True)[1])
    labels = np.argsort(order)[fitted.labels_]
    distance = fitted.transform(coefficients)[:, order]
    distance[labels[:, None] != np.arange(k)] = np.inf
    return Clusters(labels, distance.argmin(axis=0))


def compare_forms(
    points: Mapping[str, Float[np.ndarray, "n _components"]],
    groups: Mapping[int, Mapping[str, Clusters]],
    per_layer: int,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """`agreement` of each two forms' groups, and of each form's with the layers, by pair and k; `silhouette` of each
    form's groups in its own coefficients, by form and k.
    """
    agreement: dict[str, dict[str, float | None]] = {}
    silhouettes: dict[str, dict[str, float | None]] = {form: {} for form in points}
    for k, by_form in groups.items():
        labels = {form: found.labels for form, found in by_form.items()}
        layer = np.arange(len(next(iter(labels.values())))) // per_layer
        for one, other in combinations({**labels, "layer": layer}.items(), 2):
            agreement.setdefault(f"{one[0]}_{other[0]}", {})[str(k)] = rand_index(one[1], other[1])
        for form, each in points.items():
            silhouettes[form][str(k)] = silhouette(each, labels[form])
    return {"agreement": agreement, "silhouette": silhouettes}


def rand_index(one: Int[np.ndarray, "n"], other: Int[np.ndarray, "n"]) -> float:
    """The adjusted Rand index of two partitions: 1 for the same, 0 on average by chance."""
    return float(adjusted_rand_score(one, other))


def silhouette(coefficients: Float[np.ndarray, "n components"], labels: Int[np.ndarray, "n"]) -> float | None:
    """Mean silhouette of the heads in their coefficients, −1 to 1; None where it has no meaning (1 or n clusters)."""
    if not 1 < len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(coefficients, labels))


def head_rows(forms: Mapping[str, KernelPca], groups: Mapping[str, Clusters], per_layer: int) -> list[dict[str, Any]]:
    """Each head's layer, first two coefficients (0 where there is one head only) and group, in each form."""
    rows = []
    for form, pca in forms.items():
        first = np.pad(pca.coefficients[:, :2].numpy(), ((0, 0), (0, max(0, 2 - pca.count))))
        rows += [
            {
                "form": form,
                "layer": i // per_layer,
                "head": i % per_layer,
                "component_1": float(first[i, 0]),
                "component_2": float(first[i, 1]),
                "cluster": int(groups[form].labels[i]),
            }
            for i in range(pca.count)
        ]
    return rows

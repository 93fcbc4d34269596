"""Heads' roles beside what the weight axis knows of them: rank correlations, and how much a clustering explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from permeation.heads.chance import Chance, shuffles_within_layers, standard_ranks
from permeation.weights.pca import KernelPca


@dataclass(frozen=True)
class Beside:
    """The rank correlation over heads of a role with a property.

    Attributes:
        shuffled: Spearman's ρ beside ρ with the heads shuffled, all of them.
        low, high: the middle 95 % of ρ over resampled heads.
        within: the mean over layers of ρ within a layer, which depth cannot make, beside shuffles within layers; None
            where the layers have a single head.
    """

    shuffled: Chance
    low: float
    high: float
    within: Chance | None


def rank_beside(
    role: Float[np.ndarray, "layers heads"],
    property_: Float[np.ndarray, "layers heads"],
    resamples: int,
    draws: int,
    rng: np.random.Generator,
) -> Beside:
    """Spearman's ρ over all heads and within layers; where one of the two is constant ρ is 0."""
    layers, heads = role.shape
    x, y = role.ravel(), property_.ravel()
    of_x, of_y = standard_ranks(x), standard_ranks(y)
    shuffled = np.array([of_x @ rng.permutation(of_y) for _ in range(draws)])
    resampled = np.array(
        [_rank_correlation(x[some], y[some]) for some in rng.integers(x.size, size=(resamples, x.size))]
    )
    low, high = (float(each) for each in np.quantile(resampled, (0.025, 0.975)))
    within = None
    if heads > 1:
        ranks = [np.stack([standard_ranks(each) for each in values]).ravel() for values in (role, property_)]
        orders = shuffles_within_layers(layers, heads, draws, rng)
        drawn = (ranks[0] * ranks[1][orders]).sum(axis=1) / layers
        within = Chance.of(float(ranks[0] @ ranks[1]) / layers, drawn)
    return Beside(Chance.of(float(of_x @ of_y), shuffled), low, high, within)


def between_clusters(
    role: Float[np.ndarray, "n"], cluster: Int[np.ndarray, "n"], draws: int, rng: np.random.Generator
) -> Chance:
    """η²: the share of the variance of the role's ranks that lies between clusters, against shuffled labels."""
    ranks = standard_ranks(role)

    def share(labels: Int[np.ndarray, "n"]) -> float:
        sums, sizes = np.bincount(labels, ranks), np.bincount(labels)
        return float((np.square(sums[sizes > 0]) / sizes[sizes > 0]).sum())

    drawn = np.array([share(rng.permutation(cluster)) for _ in range(draws)])
    return Chance.of(share(cluster), drawn, rising=True)


def norm_shares(pca: KernelPca) -> Float[np.ndarray, "n"]:
    """‖M_i‖² of each head over that of all, of what the components are of (where centred: M less the mean head)."""
    squares = np.square(pca.coefficients.double().numpy()).sum(axis=1)
    return squares / squares.sum()


def low_variance_shares(pca: KernelPca, explained: float) -> Float[np.ndarray, "n"]:
    """Of each head's ‖M_i‖² the share on the components behind those that explain `explained` of all heads'."""
    squares = np.square(pca.coefficients.double().numpy())
    return squares[:, pca.components_for(explained) :].sum(axis=1) / squares.sum(axis=1)


def _rank_correlation(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float:
    return float(standard_ranks(x) @ standard_ranks(y))

"""The settings of the weight axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from permeation.frame.checks import Settings, boolean, checked, choice, count_or_all, integer, number, optional, rising

Count = int | Literal["all"]


@dataclass(frozen=True)
class Wqk(Settings):
    prefix = "wqk."
    fold_norm: bool = checked(
        boolean,
        "Fold the scales of the norm in front into W_Q and W_K, as is usual. Choose false to see what folding does.",
    )


@dataclass(frozen=True)
class Moments(Settings):
    prefix = "moments."
    tokens: int = checked(
        integer(2),
        "Text from which the second moments of the attention layers' inputs are taken; rivals and locate "
        "never measure on it.",
    )
    context: int = checked(integer(2), "Tokens of a window of that text.")


@dataclass(frozen=True)
class Pca(Settings):
    prefix = "pca."
    center: bool = checked(boolean, "Take the mean head out before the decomposition.")


@dataclass(frozen=True)
class Reconstruct(Settings):
    prefix = "reconstruct."
    components: tuple[Count, ...] = checked(
        rising(count_or_all),
        "Numbers K of components from which all heads are rebuilt; all gives the model back and checks the injection.",
    )


@dataclass(frozen=True)
class Locate(Settings):
    prefix = "locate."
    components: float = checked(
        number(0.0, 1.0),
        "The share of the components that is kept where a single layer is rebuilt.",
    )
    bands: int = checked(
        integer(2),
        "Groups of components of equal number, from the largest variance to the smallest; each is dropped "
        "from all layers in turn.",
    )
    max_tokens: int | None = checked(optional(integer(2)), "At most this much text for a ratio; null: all there is.")


@dataclass(frozen=True)
class Cluster(Settings):
    prefix = "cluster."
    k: tuple[int, ...] = checked(rising(integer(1)), "Numbers of clusters into which all heads are grouped.")
    share: Literal["centroid", "medoid"] = checked(
        choice("centroid", "medoid"),
        "The W_QK that a cluster's heads get: centroid (their mean) or medoid (that of the head nearest to it).",
    )
    components: Count = checked(count_or_all, "How many PCA coefficients of a head k-means sees; all, or a count.")

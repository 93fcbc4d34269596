"""The settings of the weight axis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from permeation.frame.checks import (
    Settings,
    boolean,
    checked,
    choice,
    count_or_all,
    integer,
    number,
    reject,
    rising,
)

Count = int | Literal["all"]
Components = int | str  # a count of components, "90%" of the variance, or "all"


def components(key: str, value: Any) -> tuple[Components, ...]:
    """A list of counts, then shares of the variance as "90%", each rising, and `all` at the end."""
    accepts = 'a list of counts, then shares of the variance such as "90%", each rising, then all'
    if not isinstance(value, (list, tuple)) or not value:
        reject(key, value, accepts)
    ranks = [_rank(item) for item in value]
    if any(rank is None for rank in ranks) or any(b <= a for a, b in pairwise(filter(None, ranks))):
        reject(key, value, accepts)
    return tuple(value)


def _rank(item: object) -> tuple[int, float] | None:
    """Where an entry stands in a list: its kind, and its size within the kind; None for what is no entry."""
    if item == "all":
        return 2, 0.0
    if isinstance(item, int) and not isinstance(item, bool) and item >= 1:
        return 0, float(item)
    share = re.fullmatch(r"(\d{1,2}(?:\.\d+)?)%", item) if isinstance(item, str) else None
    return (1, float(share[1])) if share and float(share[1]) > 0 else None


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
    components: tuple[Components, ...] = checked(
        components,
        "How many components W_QK is rebuilt from: counts, then shares of the variance as text, then all, which "
        "gives the model back and checks the injection.",
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
        "Groups of components of equal number, from the largest variance to the smallest; each is dropped from "
        "all layers in turn.",
    )
    layers: Count = checked(
        count_or_all,
        "How many layers are rebuilt, one at a time, evenly spread from the first to the last; all takes the longest.",
    )
    windows: int = checked(integer(2), "Windows that each single layer is measured on, always as many.")


@dataclass(frozen=True)
class Cluster(Settings):
    prefix = "cluster."
    k: tuple[int, ...] = checked(rising(integer(1)), "Numbers of clusters into which all heads are grouped.")
    share: Literal["centroid", "medoid"] = checked(
        choice("centroid", "medoid"),
        "The W_QK that a cluster's heads get: centroid (their mean) or medoid (that of the head nearest to it).",
    )
    components: Count = checked(count_or_all, "How many PCA coefficients of a head k-means sees; all, or a count.")

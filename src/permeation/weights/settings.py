"""The settings of the weight axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from permeation.frame.checks import Settings, boolean, checked, choice, count_or_all, integer, number, optional, rising

Count = int | Literal["all"]


@dataclass(frozen=True)
class Wqk(Settings):
    prefix = "wqk."
    fold_norm: bool = checked(boolean)


@dataclass(frozen=True)
class Moments(Settings):
    prefix = "moments."
    tokens: int = checked(integer(2))
    context: int = checked(integer(2))


@dataclass(frozen=True)
class Pca(Settings):
    prefix = "pca."
    center: bool = checked(boolean)


@dataclass(frozen=True)
class Reconstruct(Settings):
    prefix = "reconstruct."
    components: tuple[Count, ...] = checked(rising(count_or_all))


@dataclass(frozen=True)
class Locate(Settings):
    prefix = "locate."
    components: float = checked(number(0.0, 1.0))
    bands: int = checked(integer(2))
    max_tokens: int | None = checked(optional(integer(2)))


@dataclass(frozen=True)
class Cluster(Settings):
    prefix = "cluster."
    k: tuple[int, ...] = checked(rising(integer(1)))
    share: Literal["centroid", "medoid"] = checked(choice("centroid", "medoid"))
    components: Count = checked(count_or_all)

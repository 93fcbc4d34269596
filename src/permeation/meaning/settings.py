"""The settings of the meaning axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from permeation.frame.checks import Settings, boolean, checked, choice, count_or_all, integer, number


@dataclass(frozen=True)
class Activations(Settings):
    prefix = "activations."
    prepend_bos: bool = checked(boolean)
    batch_size: int = checked(integer(1))


@dataclass(frozen=True)
class Sigma(Settings):
    prefix = "sigma."
    direction_layer: int = checked(integer())


@dataclass(frozen=True)
class Response(Settings):
    prefix = "response."
    field: Literal["final", "rank", "heldout"] = checked(choice("final", "rank", "heldout"))
    threshold: float = checked(number(0.0, 1.0))


@dataclass(frozen=True)
class G(Settings):
    prefix = "g."
    exclude_final: int = checked(integer(0))


@dataclass(frozen=True)
class Bootstrap(Settings):
    prefix = "bootstrap."
    resamples: int = checked(integer(1))


@dataclass(frozen=True)
class Nulls(Settings):
    prefix = "nulls."
    draws: int = checked(integer(1))


@dataclass(frozen=True)
class Controls(Settings):
    prefix = "controls."
    permutations: int = checked(integer(1))


@dataclass(frozen=True)
class Decode(Settings):
    prefix = "decode."
    threshold: float = checked(number(0.5, 1.0))
    permutations: int = checked(integer(1))


@dataclass(frozen=True)
class LogitLens(Settings):
    prefix = "logit_lens."
    top: int = checked(integer(1))


@dataclass(frozen=True)
class Intervene(Settings):
    prefix = "intervene."
    layers: int | Literal["all"] = checked(count_or_all)
    clean_auc: float = checked(number(0.5, 1.0))

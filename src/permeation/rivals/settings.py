"""The settings of the rivals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from permeation.frame.checks import Settings, checked, choice, distinct, integer, number, optional, rising
from permeation.rivals.registry import LONG, METHODS


def methods(key: str, value: Any) -> tuple[str, ...]:
    """A list of names of the registry; `long` for its LONG list."""
    return LONG if value == "long" else distinct(choice(*METHODS))(key, value)


@dataclass(frozen=True)
class Rivals(Settings):
    prefix = "rivals."
    methods: tuple[str, ...] = checked(
        methods,
        "The ways to store W_Q and W_K that are measured, of those in src/permeation/rivals/registry.py; long: the "
        "best of each kind, for a frontier without gaps.",
    )
    bits: tuple[float, ...] = checked(
        rising(number(0.0, 16.0, or_equal=True)),
        "Storage, in bits for each number of W_Q and W_K; each method takes its sizes that are nearest.",
    )
    calibrate: tuple[str, ...] = checked(
        distinct(choice(*METHODS)),
        "Of the methods, those that are measured first: from them the score error is taught to foretell the others.",
    )
    leave_out: float | None = checked(
        optional(number(1.0)),
        "A run is left out where one that was measured first takes no more bits and loses less, even if the run lost "
        "so many times less than foretold, or as many times as the first runs differ; each method keeps its largest "
        "size. null: all runs are measured.",
    )
    compared: int = checked(
        integer(2),
        "Windows on which KL and the likeliest token are compared with the untouched model's.",
    )

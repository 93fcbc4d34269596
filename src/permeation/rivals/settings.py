"""The settings of the rivals."""

from __future__ import annotations

from dataclasses import dataclass

from permeation.frame.checks import Settings, checked, choice, distinct, number, rising
from permeation.rivals.registry import METHODS


@dataclass(frozen=True)
class Rivals(Settings):
    prefix = "rivals."
    methods: tuple[str, ...] = checked(distinct(choice(*METHODS)))
    shares: tuple[float, ...] = checked(rising(number(0.0, 1.0)))

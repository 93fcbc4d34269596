"""The settings of the rivals."""

from __future__ import annotations

from dataclasses import dataclass

from permeation.frame.checks import Settings, checked, choice, distinct, number, rising
from permeation.rivals.registry import METHODS


@dataclass(frozen=True)
class Rivals(Settings):
    prefix = "rivals."
    methods: tuple[str, ...] = checked(
        distinct(choice(*METHODS)),
        "The ways to store W_Q and W_K that are measured; src/permeation/rivals/registry.py names all there are.",
    )
    shares: tuple[float, ...] = checked(
        rising(number(0.0, 1.0)),
        "Storage budgets, as shares of what W_Q and W_K take at 16 bits a number; each method takes its largest "
        "size that fits.",
    )

"""The settings of the two stages where both axes meet."""

from __future__ import annotations

from dataclasses import dataclass

from permeation.frame.checks import Settings, checked, integer, number, rising


@dataclass(frozen=True)
class Heads(Settings):
    prefix = "heads."
    pairs: int = checked(
        integer(2),
        "Matched pairs of prompts of each word at which heads are changed, the first of the list; all pairs are "
        "references. The time grows with them.",
    )
    permutations: int = checked(
        integer(1),
        "Sign flips of the pairs, and shuffles of the heads, for the p-values. The smallest possible p is "
        "1 / (permutations + 1).",
    )
    windows: int = checked(
        integer(2),
        "Windows on which the perplexity without a head is measured; as many others give the head's mean.",
    )
    context: int = checked(
        integer(2),
        "Tokens from the start of each of these windows. More of both narrow the intervals; the time grows with them.",
    )


@dataclass(frozen=True)
class Compressed(Settings):
    prefix = "compressed."
    ratios: tuple[float, ...] = checked(
        rising(number(1.0)),
        "Perplexity ratios near which compressed models are taken from the rivals, to see what they keep of the sense.",
    )
    methods: int = checked(integer(1), "How many methods, the nearest, are taken at each of these ratios.")
    layers: int = checked(
        integer(1), "At how many layers, evenly spread, a compressed model's response R to one direction is measured."
    )

"""Random numbers that depend on what they are for, and on nothing else that is drawn."""

from __future__ import annotations

import hashlib

import numpy as np


def named_seed(seed: int, name: str) -> int:
    """A seed of 63 bits for what is called `name`."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") >> 1


def named_generator(seed: int, name: str) -> np.random.Generator:
    """A numpy generator seeded by the run's seed and a name: a new name changes no other's draws."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])

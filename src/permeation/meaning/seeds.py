"""Random numbers that depend on what they are for, and on nothing else that is drawn."""

from __future__ import annotations

import hashlib

import numpy as np


def named_generator(seed: int, name: str) -> np.random.Generator:
    """A generator seeded by the run's seed and a name (SHA-256 of it): a new name changes no other's draws."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])

"""A seed for everything that is drawn, made of its name."""

from __future__ import annotations

import hashlib


def named_seed(seed: int, name: str) -> int:
    """A seed of 63 bits for what is called `name`: what else is drawn, and in which order, does not change it."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") >> 1

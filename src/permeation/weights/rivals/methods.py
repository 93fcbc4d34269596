"""All rivals by the name that params.yaml calls them."""

from __future__ import annotations

from collections.abc import Callable

from permeation.weights.rivals import circuit_svd, low_rank, mixing, quantised, tucker
from permeation.weights.rivals.base import Problem, Rival

METHODS: dict[str, Callable[[Problem], Rival]] = {
    **mixing.METHODS,
    **low_rank.METHODS,
    **circuit_svd.METHODS,
    **tucker.METHODS,
    **quantised.METHODS,
}

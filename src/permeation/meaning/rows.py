"""Rows of the tables behind the charts: long format, one row for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float


def by_layer(
    names: Mapping[str, str], depth: Float[np.ndarray, "layers"] | None = None, **columns: Any
) -> list[dict[str, Any]]:
    """A row a layer: the names, the depth l/L, and each column's value there.

    depth: of the values; by default they are those of all layers. A column that is None is null in every row.
    """
    size = next(len(values) for values in columns.values() if values is not None)
    depth = np.linspace(0, 1, size) if depth is None else depth
    filled = [[None] * size if values is None else values for values in columns.values()]
    return [
        {**names, "depth": x, **dict(zip(columns, values, strict=True))}
        for x, *values in zip(depth, *filled, strict=True)
    ]


def curve(
    panel: str, series: str, value: Any, low: Any = None, high: Any = None, depth: Any = None
) -> list[dict[str, Any]]:
    """`by_layer` for the charts of several panels: a series of a panel, with its bounds where it has any."""
    return by_layer({"panel": panel, "series": series}, depth, value=value, low=low, high=high)

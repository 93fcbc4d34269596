"""How alike the g curves of two models are: their correlation over the depths."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from permeation.meaning.bootstrap import with_interval


def on_grid(g: Float[np.ndarray, "words layers"], points: int) -> Float[np.ndarray, "words points"]:
    """g at `points` depths l/L from 0 to 1, linearly between the layers.

    Points between layers are no measurements, and their number is no number of observations. Interpolating rounds off
    corners, more so in a model of few layers, which raises a correlation rather than lowers it.
    """
    depth, grid = np.linspace(0, 1, g.shape[1]), np.linspace(0, 1, points)
    return np.stack([np.interp(grid, depth, curve) for curve in g])


def correlation(x: Float[np.ndarray, "*draws points"], y: Float[np.ndarray, "*draws points"]) -> np.ndarray:
    """Pearson correlation over the last axis."""
    x, y = (z - z.mean(axis=-1, keepdims=True) for z in (x, y))
    return np.asarray((x * y).sum(axis=-1) / np.sqrt(np.square(x).sum(axis=-1) * np.square(y).sum(axis=-1)))


def compare_means(
    x: Float[np.ndarray, "words points"], y: Float[np.ndarray, "words points"], resamples: int, rng: np.random.Generator
) -> dict[str, float]:
    """The two models' mean curves over the same words, with the middle 95 % over words, the same ones in both."""
    chosen = rng.integers(len(x), size=(resamples, len(x)))
    drawn = correlation(x[chosen].mean(axis=1), y[chosen].mean(axis=1))
    return with_interval("correlation", correlation(x.mean(axis=0), y.mean(axis=0)), drawn)

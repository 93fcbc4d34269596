"""How alike the g curves of two models are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Likeness:
    """Pearson correlation over the depths, and root mean square difference in units of g, of two sets of curves.

    _low and _high are the middle 95 % of a bootstrap over words; None for a single word's curve.
    """

    correlation: float
    rmse: float
    correlation_low: float | None = None
    correlation_high: float | None = None
    rmse_low: float | None = None
    rmse_high: float | None = None


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


def rmse(x: Float[np.ndarray, "*draws points"], y: Float[np.ndarray, "*draws points"]) -> np.ndarray:
    """Root mean square difference over the last axis."""
    return np.asarray(np.sqrt(np.square(x - y).mean(axis=-1)))


def compare_curves(x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]) -> Likeness:
    """One word's curve in two models."""
    return Likeness(float(correlation(x, y)), float(rmse(x, y)))


def compare_means(
    x: Float[np.ndarray, "words points"],
    y: Float[np.ndarray, "words points"],
    resamples: int,
    rng: np.random.Generator,
) -> Likeness:
    """The two models' mean curves over the same words, with intervals from drawing words (the same in both models)."""
    chosen = rng.integers(len(x), size=(resamples, len(x)))
    drawn = x[chosen].mean(axis=1), y[chosen].mean(axis=1)
    intervals = [np.quantile(measure(*drawn), (0.025, 0.975)).tolist() for measure in (correlation, rmse)]
    mean = x.mean(axis=0), y.mean(axis=0)
    return Likeness(float(correlation(*mean)), float(rmse(*mean)), *intervals[0], *intervals[1])

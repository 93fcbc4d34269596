"""Laws for g over depth x = l/L, fitted by least squares and compared by AIC = n log(RSS / n) + 2 p."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

Number = int | float


@dataclass(frozen=True)
class Law:
    """A family of curves: its formula, the bounds of each parameter, and where fits start."""

    curve: Callable[..., np.ndarray]
    bounds: dict[str, tuple[Number, Number]]
    starts: tuple[tuple[Number, ...], ...]


# The published candidates for the universal curve g; power is that of each word's f, too.
LAWS = {
    "power": Law(lambda x, a, alpha: a * x**alpha, {"a": (0, 10), "alpha": (0.01, 50)}, ((1, 1), (1, 3), (1, 8))),
    "exponential": Law(
        lambda x, a, b: a * np.expm1(b * x) / np.expm1(b),
        {"a": (0, 10), "b": (0.01, 50)},
        ((1, 1), (1, 4), (1, 10)),
    ),
    "sigmoid": Law(
        lambda x, a, k, x0: a * special.expit(k * (x - x0)),
        {"a": (0, 10), "k": (0.1, 100), "x0": (-1, 2)},
        ((1, 5, 0.5), (1, 10, 0.8), (2, 5, 1)),
    ),
    "erf": Law(
        lambda x, a, x0, w: a * (1 + special.erf((x - x0) / w)) / 2,
        {"a": (0, 10), "x0": (-1, 2), "w": (0.01, 10)},
        ((1, 0.5, 0.3), (1, 0.8, 0.2), (2, 1, 0.5)),
    ),
    "logarithm": Law(
        lambda x, a, b: a * np.log1p(b * x),
        {"a": (0, 1e3), "b": (1e-3, 1e4)},
        ((1, 1), (0.5, 10), (100, 0.01)),
    ),
}


def fit_law(
    name: str, x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]
) -> tuple[Float[np.ndarray, "parameters"], float]:
    """The parameters of one law's least-squares fit, the best over its starting points, and its AIC.

    p counts the noise's variance, too. Only differences of AIC between laws on the same points mean anything.
    """
    law = LAWS[name]
    bounds = tuple(zip(*law.bounds.values(), strict=True))
    solutions = [optimize.least_squares(lambda p: law.curve(x, *p) - y, start, bounds=bounds) for start in law.starts]
    best = min(solutions, key=lambda solution: solution.cost)
    n, p = len(x), len(law.bounds) + 1
    # An exact fit has RSS 0 and no finite likelihood; rounding sets the floor.
    rss = max(2 * best.cost, n * np.finfo(float).eps ** 2)
    return best.x, float(n * np.log(rss / n) + 2 * p)


def best_law(x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]) -> str:
    """The law with the smallest AIC."""
    return min(LAWS, key=lambda name: fit_law(name, x, y)[1])


def power_exponent(
    x: Float[np.ndarray, "points"], y: Float[np.ndarray, "*draws points"]
) -> Float[np.ndarray, "*draws"] | float:
    """α of the least-squares fit of a x^α, a ≥ 0, for many curves at once.

    For a given α the best a is Σ y x^α / Σ x^2α, which leaves RSS = Σ y² − (Σ y x^α)² / Σ x^2α: one dimension to
    search, on a grid, even in log α, over the bounds that `fit_law` has, and by the parabola through the best point and
    its neighbours.
    """
    grid = np.linspace(np.log(0.01), np.log(50.0), 1000)
    basis = x ** np.exp(grid)[:, None]
    gain = np.square(np.maximum(y @ basis.T, 0)) / np.square(basis).sum(axis=1)
    best = np.clip(gain.argmax(axis=-1), 1, len(grid) - 2)[..., None]
    below, at, above = (np.take_along_axis(gain, best + step, axis=-1)[..., 0] for step in (-1, 0, 1))
    curvature = below - 2 * at + above
    shift = np.divide(below - above, 2 * curvature, out=np.zeros_like(at), where=curvature < 0)
    return np.exp(grid[best[..., 0]] + np.clip(shift, -1, 1) * (grid[1] - grid[0]))

"""The candidate laws for g over depth x = l/L, fitted by least squares and compared by AIC and BIC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

Curve = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Law:
    """A family of curves: its formula, the names of its parameters, their bounds, and where fits start."""

    formula: str
    curve: Curve
    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    starts: tuple[tuple[float, ...], ...]


LAWS: dict[str, Law] = {
    "power": Law(
        "a x^α",
        lambda x, a, alpha: a * x**alpha,
        ("a", "alpha"),
        (0.0, 0.01),
        (10.0, 50.0),
        ((1.0, 1.0), (1.0, 3.0), (1.0, 8.0)),
    ),
    "exponential": Law(
        "a (exp(b x) − 1) / (exp(b) − 1)",
        lambda x, a, b: a * np.expm1(b * x) / np.expm1(b),
        ("a", "b"),
        (0.0, 0.01),
        (10.0, 50.0),
        ((1.0, 1.0), (1.0, 4.0), (1.0, 10.0)),
    ),
    "sigmoid": Law(
        "a / (1 + exp(−k (x − x0)))",
        lambda x, a, k, x0: a * special.expit(k * (x - x0)),
        ("a", "k", "x0"),
        (0.0, 0.1, -1.0),
        (10.0, 100.0, 2.0),
        ((1.0, 5.0, 0.5), (1.0, 10.0, 0.8), (2.0, 5.0, 1.0)),
    ),
    "erf": Law(
        "a (1 + erf((x − x0) / w)) / 2",
        lambda x, a, x0, w: a * (1 + special.erf((x - x0) / w)) / 2,
        ("a", "x0", "w"),
        (0.0, -1.0, 0.01),
        (10.0, 2.0, 10.0),
        ((1.0, 0.5, 0.3), (1.0, 0.8, 0.2), (2.0, 1.0, 0.5)),
    ),
    "logarithm": Law(
        "a log(1 + b x)",
        lambda x, a, b: a * np.log1p(b * x),
        ("a", "b"),
        (0.0, 1e-3),
        (1e3, 1e4),
        ((1.0, 1.0), (0.5, 10.0), (100.0, 0.01)),
    ),
}


@dataclass(frozen=True)
class Fit:
    """A law fitted to n points.

    Attributes:
        parameters: by name. r_squared: share of the points' variance explained.
        aic, bic: n log(RSS / n) + 2 p and n log(RSS / n) + p log n with p counting the noise's variance too; only
            differences between laws on the same points mean anything, and smaller is better.
    """

    law: str
    parameters: dict[str, float]
    r_squared: float
    aic: float
    bic: float


def fit(name: str, x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]) -> Fit:
    """The least-squares fit of one law, the best over its starting points."""
    law = LAWS[name]
    solutions = [
        optimize.least_squares(lambda p: law.curve(x, *p) - y, start, bounds=(law.lower, law.upper))
        for start in law.starts
    ]
    best = min(solutions, key=lambda solution: solution.cost)
    n, p = len(x), len(law.names) + 1
    # An exact fit has RSS 0 and no finite likelihood; rounding sets the floor.
    rss = max(2 * best.cost, n * np.finfo(float).eps ** 2)
    return Fit(
        law=name,
        parameters=dict(zip(law.names, map(float, best.x), strict=True)),
        r_squared=float(1 - rss / np.square(y - y.mean()).sum()),
        aic=float(n * np.log(rss / n) + 2 * p),
        bic=float(n * np.log(rss / n) + p * np.log(n)),
    )


def fit_all(x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]) -> dict[str, Fit]:
    """Every candidate law fitted to the same points, best (lowest AIC) first."""
    return dict(sorted(((name, fit(name, x, y)) for name in LAWS), key=lambda item: item[1].aic))

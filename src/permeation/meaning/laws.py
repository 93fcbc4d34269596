"""Laws for f and g over depth x = l/L, fitted by least squares and compared by AIC and BIC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import optimize, special, stats

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
    "tanh": Law(
        "a tanh(b x)",
        lambda x, a, b: a * np.tanh(b * x),
        ("a", "b"),
        (0.0, 1e-3),
        (1e3, 100.0),
        ((1.0, 1.0), (0.5, 5.0), (100.0, 0.01)),
    ),
    "two_stage": Law(
        "a x^β + c / (1 + exp(−k (x − x0)))",
        lambda x, a, beta, c, k, x0: a * x**beta + c * special.expit(k * (x - x0)),
        ("a", "beta", "c", "k", "x0"),
        (0.0, 0.01, 0.0, 5.0, 0.5),
        (10.0, 50.0, 10.0, 200.0, 1.5),
        (
            (0.1, 1.0, 0.3, 20.0, 0.8),
            (0.3, 2.0, 0.1, 50.0, 0.9),
            (0.3, 1.0, 0.5, 10.0, 1.0),
            (0.1, 3.0, 0.5, 30.0, 0.7),
        ),
    ),
}
# With the end or the far value of g fixed at 1, as they were published (exp3ef_universal_g of the repository of
# docs/meaning.md, Published definitions).
LAWS |= {
    "power_to_1": Law("x^α", lambda x, alpha: x**alpha, ("alpha",), (0.01,), (10.0,), ((1.0,),)),
    "saturating_to_1": Law(
        "1 − exp(−x / τ)", lambda x, tau: -np.expm1(-x / tau), ("tau",), (0.01,), (10.0,), ((0.3,),)
    ),
    "sigmoid_to_1": Law(
        "1 / (1 + exp(−k (x − x0)))",
        lambda x, k, x0: special.expit(k * (x - x0)),
        ("k", "x0"),
        (0.1, 0.0),
        (100.0, 1.0),
        ((10.0, 0.5),),
    ),
    "erf_to_1": Law(
        "erf(x / (w √2))", lambda x, w: special.erf(x / (w * np.sqrt(2))), ("w",), (0.01,), (10.0,), ((0.4,),)
    ),
    "logarithm_to_1": Law(
        "log(1 + x / τ) / log(1 + 1 / τ)",
        lambda x, tau: np.log1p(x / tau) / np.log1p(1 / tau),
        ("tau",),
        (0.001,),
        (10.0,),
        ((0.3,),),
    ),
}
# The five candidates for the universal curve g, and those for the mean response f (Landau: a power law near the
# onset, saturation, or a second stage).
G_LAWS = ("power", "exponential", "sigmoid", "erf", "logarithm")
PUBLISHED_G_LAWS = ("power_to_1", "saturating_to_1", "sigmoid_to_1", "erf_to_1", "logarithm_to_1")
F_LAWS = ("power", "tanh", "sigmoid", "two_stage")


@dataclass(frozen=True)
class LawFit:
    """A law fitted to n points.

    Attributes:
        parameters: by name.
        intervals: 95 % of each parameter, x̂ ± t √(s² (JᵀJ)⁻¹) with J the Jacobian at the optimum, s² = RSS / (n − p).
            They take the points for independent; neighbouring layers are not, so they are too narrow. None where the
            points do not determine the parameter (JᵀJ singular).
        r_squared: share of the points' variance explained.
        fitted: the law at the points.
        aic, bic: n log(RSS / n) + 2 p and n log(RSS / n) + p log n with p counting the noise's variance too; only
            differences between laws on the same points mean anything, and smaller is better.
    """

    law: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float] | None]
    r_squared: float
    aic: float
    bic: float
    fitted: Float[np.ndarray, "points"]


def fit_law(name: str, x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]) -> LawFit:
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
    return LawFit(
        law=name,
        parameters=dict(zip(law.names, map(float, best.x), strict=True)),
        intervals=dict(zip(law.names, _intervals(best.x, best.jac, rss), strict=True)),
        r_squared=float(1 - rss / np.square(y - y.mean()).sum()),
        aic=float(n * np.log(rss / n) + 2 * p),
        bic=float(n * np.log(rss / n) + p * np.log(n)),
        fitted=law.curve(x, *best.x),
    )


def fit_laws(
    x: Float[np.ndarray, "points"],
    y: Float[np.ndarray, "points"],
    names: Sequence[str],
    criterion: Literal["aic", "bic"] = "aic",
) -> dict[str, LawFit]:
    """Each of the named laws fitted to the same points, best (lowest criterion) first."""
    fits = {name: fit_law(name, x, y) for name in names}
    return dict(sorted(fits.items(), key=lambda item: getattr(item[1], criterion)))


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


def _intervals(
    optimum: Float[np.ndarray, "p"], jacobian: Float[np.ndarray, "points p"], rss: float
) -> list[tuple[float, float] | None]:
    n, p = jacobian.shape
    information = jacobian.T @ jacobian
    if n <= p or np.linalg.matrix_rank(information) < p:
        return [None] * p
    half = stats.t.ppf(0.975, n - p) * np.sqrt(np.diag(np.linalg.inv(information)) * rss / (n - p))
    return [(float(value - width), float(value + width)) for value, width in zip(optimum, half, strict=True)]

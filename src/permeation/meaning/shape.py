"""The shape of the words' response: h, f_max and g with their intervals, and the laws that f and g follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from permeation.frame.seeds import named_generator
from permeation.meaning import bootstrap
from permeation.meaning.factors import Factors, WordResiduals, factorise_words, largest
from permeation.meaning.laws import F_LAWS, G_LAWS, LawFit, fit_law, fit_laws

ROUNDING = 1e-6  # of a cosine of float32 residuals
# The figures that the metrics have an interval of.
INTERVALS = (
    "word_correlation_mean",
    "peak_depth",
    "final_drop",
    "alpha",
    "decomposition_r2",
    "decomposition_r2_drift_out",
)


def line_rows(
    h: Float[np.ndarray, "prompts"], sigma: Float[np.ndarray, "prompts layers"], threshold: float
) -> Iterator[dict[str, Any]]:
    """σ(l) ≈ f(l) · h + intercept(l) by least squares, a row a layer.

    r_squared: the share of σ's variance explained. h_star: the smallest |h| at which σ leaves the line by more than
    `threshold` of σ's range at that layer; null where no prompt's does. A σ that varies by rounding alone follows
    nothing and leaves nothing.
    """
    for x, values in zip(np.linspace(0, 1, sigma.shape[1]), sigma.T, strict=True):
        fit, span = stats.linregress(h, values), np.ptp(values)
        broken = np.abs(values - fit.slope * h - fit.intercept) > threshold * span
        moves = bool(span > ROUNDING)
        yield {
            "depth": x,
            "f": fit.slope,
            "standard_error": fit.stderr if moves else 0.0,
            "r_squared": fit.rvalue**2 if moves else 0.0,
            "intercept": fit.intercept,
            "h_star": float(np.abs(h[broken]).min()) if moves and broken.any() else None,
        }


@dataclass(frozen=True)
class Shape:
    """The words' factors and what describes their shape.

    Attributes:
        lines: h and σ of each word's gradient prompts. threshold: of `line_rows`.
        real: the factors of all words. resampled: those of resampled prompts and words.
        laws: fitted to the mean g without the last `exclude_final` layers, and to the mean f without the last; best
            first.
        beta: the exponent of each word's f, fitted by a x^β without the last layer.
    """

    lines: Mapping[str, tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_ layers"]]]
    threshold: float
    real: Factors
    resampled: Factors
    laws: Mapping[str, Sequence[LawFit]]
    beta: Mapping[str, float]
    exclude_final: int

    @property
    def depth(self) -> Float[np.ndarray, "layers"]:
        """l / L."""
        return np.linspace(0, 1, self.real.f.shape[-1])

    def summary(self) -> dict[str, Any]:
        """The headline figures, those of INTERVALS with the middle 95 % of the bootstrap as <name>_low and <name>_high;
        of f_max the intervals of the smallest and the largest.
        """
        found: dict[str, Any] = {"word_correlation_mean": None, "word_correlation_min": None}
        found |= {name: float(value) for name, value in self.real.statistics(self.exclude_final).items()}
        resampled = self.resampled.statistics(self.exclude_final)
        for name in (each for each in INTERVALS if each in resampled):
            found[f"{name}_low"], found[f"{name}_high"] = map(float, bootstrap.interval(resampled[name]))
        f_max = dict(zip(self.lines, largest(self.real.f).tolist(), strict=True))
        ends = [choose(f_max, key=lambda word: f_max[word]) for choose in (min, max)]
        bounds = [
            dict(zip(f_max, bound.tolist(), strict=True)) for bound in bootstrap.interval(largest(self.resampled.f))
        ]
        return found | {
            "best_model": self.laws["g"][0].law,
            "best_response_model": self.laws["f"][0].law,
            "beta": {"min": min(self.beta.values()), "max": max(self.beta.values())},
            "f_max": f_max,
            "f_max_low": {word: bounds[0][word] for word in ends},
            "f_max_high": {word: bounds[1][word] for word in ends},
        }

    def g_rows(self) -> list[dict[str, Any]]:
        """g per word and layer, and their mean, for plots/g.json."""
        curves = [("word", word, g) for word, g in zip(self.lines, self.real.g, strict=True)]
        return [
            {"kind": kind, "word": word, "depth": x, "g": y}
            for kind, word, g in [*curves, ("mean", "mean", self.real.mean_g)]
            for x, y in zip(self.depth, g, strict=True)
        ]

    def response_rows(self) -> list[dict[str, Any]]:
        """`line_rows` of each word, for plots/response.json."""
        return [{"word": word, **row} for word, line in self.lines.items() for row in line_rows(*line, self.threshold)]

    def law_rows(self) -> list[dict[str, Any]]:
        """The fitted laws at the points they were fitted to, best first, for plots/fits.json."""
        means = {"g": self.real.mean_g, "f": self.real.f.mean(axis=0)}
        return [
            {"target": target, "law": fit.law, "depth": x, "value": y, "fitted": z, "residual": y - z}
            for target, fits in self.laws.items()
            for fit in fits
            for x, y, z in zip(self.depth, means[target], fit.fitted, strict=False)
        ]


def fit_shape(
    words: Mapping[str, WordResiduals], field: str, threshold: float, exclude_final: int, resamples: int, seed: int
) -> Shape:
    """Factorise the words' σ, resample it, and fit the laws.

    field: how h is made. threshold: of `line_rows`.
    Raises PermeationError where too few layers are left for the exponent of g.
    """
    real = factorise_words(words, field)
    real.statistics(exclude_final)  # raises before the resamples are made
    depth = np.linspace(0, 1, real.f.shape[-1])
    inner = slice(len(depth) - exclude_final)
    return Shape(
        lines={word: (h, each.split(each.sigma())[0]) for (word, each), h in zip(words.items(), real.h, strict=True)},
        threshold=threshold,
        real=real,
        resampled=bootstrap.resample(words, field, resamples, named_generator(seed, "bootstrap")),
        laws={
            "g": fit_laws(depth[inner], real.mean_g[inner], G_LAWS),
            "f": fit_laws(depth[:-1], real.f.mean(axis=0)[:-1], F_LAWS),
        },
        beta={
            word: fit_law("power", depth[:-1], f[:-1]).parameters["alpha"]
            for word, f in zip(words, real.f, strict=True)
        },
        exclude_final=exclude_final,
    )

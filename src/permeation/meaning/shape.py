"""The shape of the words' response: h, f_max and g with their intervals, and the laws that f and g follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from permeation.frame.seeds import named_generator
from permeation.meaning import bootstrap
from permeation.meaning.factors import WordResiduals, factorise_words, largest
from permeation.meaning.laws import F_LAWS, G_LAWS, LawFit, fit_law, fit_laws
from permeation.meaning.rows import by_layer

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


def fit_shape(
    words: Mapping[str, WordResiduals], field: str, threshold: float, exclude_final: int, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Factorise the words' σ, resample it, and fit the laws: the metrics, and the tables g, response and fits.

    field: how h is made. threshold: of `line_rows`. The figures of INTERVALS have the middle 95 % of the bootstrap as
    <name>_low and <name>_high. Laws are fitted to the mean g without the last `exclude_final` layers, and to the mean f
    without the last; beta is the exponent of each word's f, fitted by a x^β without the last layer.
    Raises PermeationError where too few layers are left for the exponent of g.
    """
    real = factorise_words(words, field)
    figures = real.statistics(exclude_final)  # raises before the resamples are made
    resampled = bootstrap.resample(words, field, resamples, named_generator(seed, "bootstrap"))
    depth, means = np.linspace(0, 1, real.f.shape[-1]), {"g": real.mean_g, "f": real.f.mean(axis=0)}
    inner = slice(len(depth) - exclude_final)
    laws = {
        "g": fit_laws(depth[inner], means["g"][inner], G_LAWS),
        "f": fit_laws(depth[:-1], means["f"][:-1], F_LAWS),
    }
    beta = [fit_law("power", depth[:-1], f[:-1]).parameters["alpha"] for f in real.f]
    found: dict[str, Any] = {"word_correlation_mean": None} | {name: float(each) for name, each in figures.items()}
    drawn = resampled.statistics(exclude_final)
    for name in (each for each in INTERVALS if each in drawn):
        found[f"{name}_low"], found[f"{name}_high"] = map(float, bootstrap.interval(drawn[name]))
    f_max = largest(real.f)
    bounds = dict(zip(("f_max_low", "f_max_high"), bootstrap.interval(largest(resampled.f)), strict=True))
    ends = {list(words)[i]: i for i in (f_max.argmin(), f_max.argmax())}  # these two have their intervals
    found |= {
        "best_model": laws["g"][0].law,
        "best_response_model": laws["f"][0].law,
        "beta": {"min": min(beta), "max": max(beta)},
        "f_max": dict(zip(words, f_max.tolist(), strict=True)),
    } | {name: {word: float(bound[i]) for word, i in ends.items()} for name, bound in bounds.items()}
    curves = [("word", word, g) for word, g in zip(words, real.g, strict=True)] + [("mean", "mean", means["g"])]
    lines = {word: (h, each.split(each.sigma())[0]) for (word, each), h in zip(words.items(), real.h, strict=True)}
    return found, {
        "g": [row for kind, word, g in curves for row in by_layer({"kind": kind, "word": word}, g=g)],
        "response": [{"word": word, **row} for word, line in lines.items() for row in line_rows(*line, threshold)],
        "fits": [row for target, fits in laws.items() for fit in fits for row in law_rows(target, fit, means[target])],
    }


def law_rows(target: str, fit: LawFit, mean: Float[np.ndarray, "layers"]) -> list[dict[str, Any]]:
    """A fitted law at the layers that it was fitted to, beside what was measured there."""
    value, depth = mean[: len(fit.fitted)], np.linspace(0, 1, len(mean))[: len(fit.fitted)]
    names = {"target": target, "law": fit.law}
    return by_layer(names, depth, value=value, fitted=fit.fitted, residual=value - fit.fitted)

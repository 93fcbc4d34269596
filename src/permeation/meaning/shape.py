"""The shape of the words' response: h, f_max and g with their intervals, and the law that g follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from permeation.frame.seeds import named_generator
from permeation.meaning import bootstrap
from permeation.meaning.factors import WordResiduals, factorise, largest
from permeation.meaning.laws import best_law, power_exponent
from permeation.meaning.rows import by_layer

ROUNDING = 1e-6  # of a cosine of float32 residuals
OF_PRODUCT = ("decomposition_r2", "decomposition_r2_drift_out")
# The figures that the metrics have an interval of.
INTERVALS = ("word_correlation_mean", "peak_depth", "final_drop", "alpha", *OF_PRODUCT)


def line_rows(
    word: str, h: Float[np.ndarray, "prompts"], sigma: Float[np.ndarray, "prompts layers"]
) -> list[dict[str, Any]]:
    """A row a layer of σ(l) ≈ f(l) · h + intercept(l), by least squares.

    r_squared: the share of σ's variance explained. A σ that varies by rounding alone follows nothing.
    """
    fits, moves = [stats.linregress(h, values) for values in sigma.T], np.ptp(sigma, axis=0) > ROUNDING
    error, r = (np.where(moves, [getattr(fit, name) for fit in fits], 0) for name in ("stderr", "rvalue"))
    return by_layer({"word": word}, f=[fit.slope for fit in fits], standard_error=error, r_squared=r**2)


def fit_shape(
    words: Mapping[str, WordResiduals], field: str, exclude_final: int, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Factorise the words' σ, resample it, and fit the laws: the metrics, and the tables g and response.

    field: how h is made. The figures of INTERVALS have the middle 95 % of the bootstrap as <name>_low and <name>_high.
    Laws are fitted to the mean g without the last `exclude_final` layers; beta is the exponent of each word's f, fitted
    by a x^β without the last layer.
    Raises PermeationError where too few layers are left for the exponent of g.
    """
    real = factorise(words.values(), field)
    figures = real.statistics(exclude_final)  # raises before the resamples are made
    resampled = bootstrap.resample(words, field, resamples, named_generator(seed, "bootstrap"))
    drawn = resampled.statistics(exclude_final)
    found: dict[str, Any] = {"word_correlation_mean": None} | {name: float(each) for name, each in figures.items()}
    for name in (each for each in INTERVALS if each in drawn):
        found |= bootstrap.with_interval(name, figures[name], drawn[name])
    depth = np.linspace(0, 1, real.f.shape[-1])
    inner = slice(len(depth) - exclude_final)
    beta = np.asarray(power_exponent(depth[:-1], real.f[:, :-1]))
    f_max, (low, high) = largest(real.f), bootstrap.interval(largest(resampled.f))
    ends = {list(words)[i]: i for i in (f_max.argmin(), f_max.argmax())}  # these two have their intervals
    found |= {
        "best_model": best_law(depth[inner], real.mean_g[inner]),
        "beta": {"min": float(beta.min()), "max": float(beta.max())},
        "f_max": dict(zip(words, f_max.tolist(), strict=True)),
        "f_max_low": {word: float(low[i]) for word, i in ends.items()},
        "f_max_high": {word: float(high[i]) for word, i in ends.items()},
    }
    curves = [("word", word, g) for word, g in zip(words, real.g, strict=True)] + [("mean", "mean", real.mean_g)]
    return found, {
        "g": [row for kind, word, g in curves for row in by_layer({"kind": kind, "word": word}, g=g)],
        "response": [
            row
            for (word, each), h in zip(words.items(), real.h, strict=True)
            for row in line_rows(word, h, each.split(each.sigma())[0])
        ],
    }

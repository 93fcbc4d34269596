"""The shape of the words' response, as experiments 2 and 3 report it: the factors, their intervals, their laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from permeation.meaning import bootstrap
from permeation.meaning.factors import WordFactors, WordResiduals, factorise_words, real_sigmas
from permeation.meaning.laws import F_LAWS, G_LAWS, PUBLISHED_G_LAWS, LawFit, fit_law, fit_laws
from permeation.meaning.response import Response, breakdown_field, context_field
from permeation.meaning.seeds import named_generator

# The figures that the metrics have an interval of.
INTERVALS = (
    "word_correlation_mean",
    "peak_depth",
    "final_drop",
    "alpha",
    "decomposition_r2",
    "decomposition_r2_drift_out",
)


@dataclass(frozen=True)
class Shape:
    """The words' factors and what describes their shape.

    Attributes:
        responses: h, f and f_max of each word. real: the factors of all words, a single draw.
        resampled: the factors of resampled prompts and words.
        breakdown: h* of each word (`breakdown_field`).
        laws: the laws fitted to the mean g without the final layers, and to the mean f without the last; best first.
        beta: the exponent of each word's f, fitted by a x^β without the last layer.
        exclude_final: how many final layers the laws of g do not see.
    """

    responses: Mapping[str, Response]
    real: WordFactors
    resampled: WordFactors
    breakdown: Mapping[str, Float[np.ndarray, "layers"]]
    laws: Mapping[str, Mapping[str, LawFit]]
    beta: Mapping[str, float]
    exclude_final: int

    @property
    def depth(self) -> Float[np.ndarray, "layers"]:
        """l / L."""
        return np.linspace(0, 1, self.real.factors.g.shape[-1])

    @property
    def means(self) -> dict[str, Float[np.ndarray, "layers"]]:
        """g and f averaged over the words."""
        f = np.mean([response.slope for response in self.responses.values()], axis=0)
        return {"g": self.real.factors.mean_g[0], "f": f}

    def summary(self) -> dict[str, Any]:
        """The headline figures, those of INTERVALS with the middle 95 % of the bootstrap as <name>_low and <name>_high;
        of f_max the intervals of the smallest and the largest.
        """
        statistics = {name: float(value[0]) for name, value in self.real.statistics(self.exclude_final).items()}
        found: dict[str, Any] = {"word_correlation_mean": None, "word_correlation_min": None, **statistics}
        resampled = self.resampled.statistics(self.exclude_final)
        for name in (each for each in INTERVALS if each in resampled):
            found[f"{name}_low"], found[f"{name}_high"] = map(float, bootstrap.interval(resampled[name]))
        f_max = {word: response.f_max.item() for word, response in self.responses.items()}
        ends = {choose(f_max, key=lambda word: f_max[word]) for choose in (min, max)}
        bounds = [dict(zip(f_max, each, strict=True)) for each in bootstrap.interval(self.resampled.factors.f_max)]
        low, high = ({word: float(bound[word]) for word in f_max if word in ends} for bound in bounds)
        return found | {
            "best_model": next(iter(self.laws["g"])),
            "best_response_model": next(iter(self.laws["f"])),
            "beta": {"min": min(self.beta.values()), "max": max(self.beta.values())},
            "f_max": f_max,
            "f_max_low": low,
            "f_max_high": high,
        }

    def g_rows(self) -> list[dict[str, Any]]:
        """g per word and layer, and their mean, for plots/g.json."""
        curves = [("word", word, g) for word, g in zip(self.responses, self.real.factors.g[0], strict=True)]
        return [
            {"kind": kind, "word": word, "depth": x, "g": y}
            for kind, word, g in [*curves, ("mean", "mean", self.means["g"])]
            for x, y in zip(self.depth, g, strict=True)
        ]

    def response_rows(self) -> list[dict[str, Any]]:
        """f with its standard error, R², intercept and h* (null: nothing breaks the line), for plots/response.json."""
        rows = []
        for word, response in self.responses.items():
            columns = (response.slope, response.standard_error, response.r_squared, response.intercept)
            rows += [
                {"word": word, "depth": x, "f": f, "standard_error": error, "r_squared": r2, "intercept": intercept}
                | {"h_star": None if np.isinf(h) else h}
                for x, f, error, r2, intercept, h in zip(self.depth, *columns, self.breakdown[word], strict=True)
            ]
        return rows

    def law_rows(self) -> list[dict[str, Any]]:
        """The fitted laws at the points they were fitted to, best first, for plots/fits.json."""
        return [
            {"target": target, "law": fit.law, "depth": x, "value": y, "fitted": z, "residual": y - z}
            for target, fits in self.laws.items()
            for fit in fits.values()
            for x, y, z in zip(self.depth, self.means[target], fit.fitted, strict=False)
        ]


def fit_shape(
    words: Mapping[str, WordResiduals],
    field: str,
    threshold: float,
    exclude_final: int,
    resamples: int,
    seed: int,
    published: bool = False,
) -> Shape:
    """Factorise the words' σ, resample it, and fit the laws.

    field: how h is made (`response.context_field`). threshold: of `breakdown_field`, a share of σ's range.
    published: f_max and the laws of g as in docs/meaning.md, Published definitions.
    Raises PermeationError where too few layers are left for the exponent of g.
    """
    parts = list(words.values())
    sigmas = real_sigmas(parts, field)
    real = factorise_words(parts, sigmas, field, signed=published)
    real.statistics(exclude_final)  # raises before the resamples are made
    resampled = bootstrap.resample(parts, field, resamples, named_generator(seed, "bootstrap"), published)
    responses = {word: each.first_draw() for word, each in zip(words, real.factors.responses, strict=True)}
    breakdown = {}
    for (name, word), sigma in zip(words.items(), sigmas, strict=True):
        _, rows = context_field(sigma[0, :, : len(word.rank)], word.rank, field)
        breakdown[name] = breakdown_field(responses[name], rows, threshold)
    depth = np.linspace(0, 1, real.factors.g.shape[-1])
    inner = slice(len(depth) - exclude_final)
    mean_f = np.mean([response.slope for response in responses.values()], axis=0)
    names: tuple[str, ...] = PUBLISHED_G_LAWS if published else G_LAWS
    criterion: Literal["aic", "bic"] = "bic" if published else "aic"
    return Shape(
        responses=responses,
        real=real,
        resampled=resampled,
        breakdown=breakdown,
        laws={
            "g": fit_laws(depth[inner], real.factors.mean_g[0][inner], names, criterion),
            "f": fit_laws(depth[:-1], mean_f[:-1], F_LAWS),
        },
        beta={
            word: fit_law("power", depth[:-1], response.slope[:-1]).parameters["alpha"]
            for word, response in responses.items()
        },
        exclude_final=exclude_final,
    )

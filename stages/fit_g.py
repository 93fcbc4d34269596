"""Experiments 2 and 3: factorise σ = h · f_max · g, with intervals, and fit the laws of f and of g."""

from dataclasses import asdict
from typing import Any

import numpy as np

from permeation.frame.tables import write_json, write_rows
from permeation.meaning import bootstrap
from permeation.meaning.factors import factorise_words, real_sigmas, word_residuals
from permeation.meaning.laws import F_LAWS, G_LAWS, fit_law, fit_laws
from permeation.meaning.response import Response, breakdown_field, collapse_variance, context_field
from permeation.meaning.sigma import layer_index
from permeation.meaning.words import CONDITIONS, read_prompts, select
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/fit_g/: g.npy (words, L + 1), response.json, fits.json, plots/."""
    activations, config = stage.input("extract_activations"), stage.config
    prompts = read_prompts(activations / "prompts.json")
    residuals = np.load(activations / "residuals.npy", mmap_mode="r")
    sigma = np.load(stage.input("compute_sigma") / "sigma.npy")
    words = word_residuals(prompts, residuals, layer_index(config.sigma.direction_layer, residuals.shape[1]))
    field, exclude = config.response.field, config.g.exclude_final

    sigmas = real_sigmas(list(words.values()), field)
    real = factorise_words(list(words.values()), sigmas, field)
    statistics = {name: float(value[0]) for name, value in real.statistics(exclude).items()}
    rng = np.random.default_rng(config.seed)
    resampled = bootstrap.resample(list(words.values()), field, config.bootstrap.resamples, rng)

    g = real.factors.g[0]
    responses = {name: first_draw(response) for name, response in zip(words, real.factors.responses, strict=True)}
    breakdown = {
        name: breakdown_field(
            responses[name], context_field(s[0, :, : len(word.rank)], word.rank, field)[1], config.response.threshold
        )
        for (name, word), s in zip(words.items(), sigmas, strict=True)
    }
    fans = {name: [sigma[select(prompts, name, "condition", c)].mean(axis=0) for c in CONDITIONS] for name in words}
    collapse = [collapse_variance(fan[:, -1] / np.abs(fan[:, -1]).max(), fan) for fan in map(np.stack, fans.values())]

    depth = np.linspace(0, 1, g.shape[1])
    inner = slice(len(depth) - exclude)
    mean_f = np.mean([response.slope for response in responses.values()], axis=0)
    betas = [fit_law("power", depth[:-1], response.slope[:-1]).parameters["alpha"] for response in responses.values()]
    fits = {
        "g_all_layers": fit_laws(depth, g.mean(axis=0), G_LAWS),
        "g": fit_laws(depth[inner], g.mean(axis=0)[inner], G_LAWS),
        "f": fit_laws(depth[:-1], mean_f[:-1], F_LAWS),
    }
    values = {"g": g.mean(axis=0), "f": mean_f}
    low, high = (dict(zip(words, bound, strict=True)) for bound in bootstrap.interval(resampled.factors.f_max))
    summary: dict[str, Any] = {
        "word_correlation_mean": None,
        "word_correlation_min": None,
        **statistics,
        "best_model": next(iter(fits["g"])),
        "best_response_model": next(iter(fits["f"])),
        "beta_mean": float(np.mean(betas)),
        "beta_spread": float(np.std(betas)),
        "collapse_variance": float(np.mean(collapse)),
        "f_max": {name: response.f_max.item() for name, response in responses.items()},
        "f_max_low": low,
        "f_max_high": high,
    }
    for name, draws in resampled.statistics(exclude).items():
        summary[f"{name}_low"], summary[f"{name}_high"] = map(float, bootstrap.interval(draws))
    with stage.output() as folder:
        np.save(folder / "g.npy", g)
        write_json(
            folder / "response.json", {k: {n: v.tolist() for n, v in asdict(r).items()} for k, r in responses.items()}
        )
        write_json(
            folder / "fits.json",
            {k: [{**asdict(f), "fitted": f.fitted.tolist()} for f in v.values()] for k, v in fits.items()},
        )
        write_json(folder / "summary.json", summary)
        write_rows(
            folder / "plots" / "response.json",
            [
                {
                    "word": name,
                    "depth": x,
                    "f": f,
                    "standard_error": e,
                    "r_squared": r,
                    "intercept": i,
                    "h_star": None if np.isinf(h) else h,
                }
                for name, response in responses.items()
                for x, f, e, r, i, h in zip(
                    depth,
                    response.slope,
                    response.standard_error,
                    response.r_squared,
                    response.intercept,
                    breakdown[name],
                    strict=True,
                )
            ],
        )
        write_rows(
            folder / "plots" / "fits.json",
            [
                {"target": target, "law": fit.law, "depth": x, "value": y, "fitted": z, "residual": y - z}
                for target in values
                for fit in fits[target].values()
                for x, y, z in zip(depth, values[target], fit.fitted, strict=False)
            ],
        )


def first_draw(response: Response) -> Response:
    """The response of a measurement of one draw, without the axis of draws."""
    return Response(**{name: value[0] for name, value in asdict(response).items()})


if __name__ == "__main__":
    run(main)

"""Factorise σ = h · f_max · g: fit the response, compare g between words and with shuffled senses, fit its law."""

from dataclasses import asdict

import numpy as np
from tqdm import tqdm

from permeation.files import write_json, write_rows
from permeation.meaning import curves
from permeation.meaning.direction import layer_index
from permeation.meaning.nulls import WordResiduals, shuffled_g
from permeation.meaning.universality import Factorisation, factorise, pairwise_correlation
from permeation.stage import Stage, run
from permeation.words import SENSES, read_prompts, select


def word_correlation(g: np.ndarray, null: np.ndarray) -> dict[str, float | None]:
    """How alike the words' g are, and how alike with shuffled senses; null for a single word."""
    if len(g) == 1:
        return dict.fromkeys(("word_correlation_min", "word_correlation_mean", "null_correlation_mean"))
    correlation = pairwise_correlation(g)
    return {
        "word_correlation_min": float(correlation.min()),
        "word_correlation_mean": float(correlation.mean()),
        "null_correlation_mean": float(np.mean([pairwise_correlation(curves) for curves in null])),
    }


def main(stage: Stage) -> None:
    """Write data/fit_g/: g.npy (words, L + 1), null_g.npy (shuffles, words, L + 1), response.json, fits.json,
    plots/.
    """
    activations, settings = stage.input("extract_activations"), stage.config.g
    prompts = read_prompts(activations / "prompts.json")
    residuals = np.load(activations / "residuals.npy", mmap_mode="r")
    sigma = np.load(stage.input("compute_sigma") / "sigma.npy")
    layer = layer_index(stage.config.sigma.direction_layer, residuals.shape[1])
    gradients = {word: select(prompts, word, "gradient", *SENSES) for word in dict.fromkeys(p.word for p in prompts)}

    real = factorise([sigma[rows] for rows in gradients.values()])
    words = [
        WordResiduals(
            sense_a=residuals[select(prompts, word, "direction", "A"), layer],
            sense_b=residuals[select(prompts, word, "direction", "B"), layer],
            gradient=residuals[rows],
        )
        for word, rows in gradients.items()
    ]
    rng = np.random.default_rng(stage.config.seed)
    shuffles = tqdm(range(settings.shuffles), desc="shuffled senses", disable=None)
    null = np.stack([shuffled_g(words, rng) for _ in shuffles])

    depth = np.linspace(0, 1, len(real.mean_g))
    inner = slice(len(depth) - settings.exclude_final)
    fits = {
        "all_layers": curves.fit_all(depth, real.mean_g),
        "without_final": curves.fit_all(depth[inner], real.mean_g[inner]),
    }
    summary = {
        **word_correlation(real.g, null),
        "peak_depth": real.peak_depth,
        "final_drop": real.final_drop,
        "alpha": fits["without_final"]["power"].parameters["alpha"],
        "best_model": next(iter(fits["without_final"])),
        "decomposition_r2": real.pooled_r2,
        "f_max": {word: response.f_max for word, response in zip(gradients, real.responses, strict=True)},
    }
    responses = {
        word: {name: value.tolist() for name, value in asdict(response).items()}
        for word, response in zip(gradients, real.responses, strict=True)
    }
    with stage.output() as folder:
        np.save(folder / "g.npy", real.g)
        np.save(folder / "null_g.npy", null)
        write_json(folder / "response.json", responses)
        write_json(folder / "fits.json", {k: [asdict(fit) for fit in v.values()] for k, v in fits.items()})
        write_json(folder / "summary.json", summary)
        write_rows(folder / "plots" / "g.json", g_rows(list(gradients), real, null))


def g_rows(words: list[str], real: Factorisation, null: np.ndarray) -> list[dict[str, object]]:
    """g per word and layer; the mean over words; that mean with shuffled senses and its middle 95 %."""
    depth = np.linspace(0, 1, len(real.mean_g))
    low, middle, high = np.quantile(null.mean(axis=1), [0.025, 0.5, 0.975], axis=0)
    unknown = [None] * len(depth)
    curves = [("word", word, g, unknown, unknown) for word, g in zip(words, real.g, strict=True)]
    curves += [("mean", "mean", real.mean_g, unknown, unknown), ("null", "senses shuffled", middle, low, high)]
    return [
        {"kind": kind, "word": word, "depth": x, "g": y, "low": lo, "high": hi}
        for kind, word, g, lows, highs in curves
        for x, y, lo, hi in zip(depth, g, lows, highs, strict=True)
    ]


if __name__ == "__main__":
    run(main)

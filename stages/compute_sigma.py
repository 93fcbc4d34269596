"""Compute the order parameter σ of every measured prompt at every layer, plain and centred."""

from collections.abc import Sequence

import numpy as np

from permeation.files import write_json, write_rows
from permeation.meaning.direction import contrast, layer_index, midpoint
from permeation.meaning.order_parameter import centred_order_parameter, order_parameter
from permeation.stage import Stage, run
from permeation.words import CONDITIONS, SENSES, Prompt, read_prompts, select


def main(stage: Stage) -> None:
    """Write data/compute_sigma/: sigma and centred_sigma.npy (prompts, L + 1; NaN for direction prompts), plots/."""
    source = stage.input("extract_activations")
    prompts = read_prompts(source / "prompts.json")
    residuals = np.load(source / "residuals.npy", mmap_mode="r")
    layer = layer_index(stage.config.sigma.direction_layer, residuals.shape[1])

    sigma = np.full(residuals.shape[:2], np.nan)
    centred = sigma.copy()
    final = {}
    for word in dict.fromkeys(p.word for p in prompts):
        a, b = (residuals[select(prompts, word, "direction", sense)] for sense in SENSES)
        measured = select(prompts, word, "condition", *CONDITIONS) + select(prompts, word, "gradient", *SENSES)
        sigma[measured] = order_parameter(residuals[measured], contrast(a[:, layer], b[:, layer]))
        centred[measured] = centred_order_parameter(residuals[measured], contrast(a, b), midpoint(a, b))
        final[word] = [float(sigma[select(prompts, word, "condition", c), -1].mean()) for c in CONDITIONS]

    with stage.output() as folder:
        np.save(folder / "sigma.npy", sigma)
        np.save(folder / "centred_sigma.npy", centred)
        summary = {
            "n_words": len(final),
            "ordered_words": sum(bool(np.all(np.diff(values) < 0)) for values in final.values()),
            "words": {word: {"separation": values[0] - values[-1]} for word, values in final.items()},
        }
        write_json(folder / "summary.json", summary)
        write_rows(folder / "plots" / "sigma.json", condition_rows(prompts, sigma, centred))


def condition_rows(prompts: Sequence[Prompt], sigma: np.ndarray, centred: np.ndarray) -> list[dict[str, object]]:
    """σ per word, condition and layer, averaged over the condition's prompts."""
    depth = np.linspace(0, 1, sigma.shape[1])
    rows = []
    for word in dict.fromkeys(p.word for p in prompts):
        for condition in CONDITIONS:
            chosen = select(prompts, word, "condition", condition)
            means = zip(depth, sigma[chosen].mean(axis=0), centred[chosen].mean(axis=0), strict=True)
            rows += [
                {"word": word, "condition": condition, "depth": x, "sigma": s, "centred_sigma": c} for x, s, c in means
            ]
    return rows


if __name__ == "__main__":
    run(main)

"""Compute the order parameter σ of every measured prompt at every layer, plain and centred."""

import numpy as np

from permeation.files import write_json
from permeation.meaning.direction import contrast, layer_index, midpoint
from permeation.meaning.order_parameter import centred_order_parameter, order_parameter
from permeation.stage import Stage, run
from permeation.words import CONDITIONS, SENSES, read_prompts, select


def main(stage: Stage) -> None:
    """Write data/compute_sigma/: sigma.npy and centred_sigma.npy (prompts, L + 1; NaN for direction prompts)."""
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


if __name__ == "__main__":
    run(main)

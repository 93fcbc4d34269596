"""Experiment 1: the order parameter σ of every measured prompt at every layer, plain and centred."""

import numpy as np

from permeation.frame.tables import write_json
from permeation.meaning.sigma import (
    centred_order_parameter,
    check_contrast,
    contrast,
    describe_fan,
    layer_index,
    midpoint,
    order_parameter,
)
from permeation.meaning.words import CONDITIONS, SENSES, read_prompts, select
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/compute_sigma/: sigma and centred_sigma.npy (prompts, L + 1; NaN for direction prompts).

    No prompt is measured along a direction that it helped to make: the words file keeps direction prompts apart.
    """
    source = stage.input("extract_activations")
    prompts = read_prompts(source / "prompts.json")
    residuals = np.load(source / "residuals.npy", mmap_mode="r")
    layer = layer_index(stage.config.sigma.direction_layer, residuals.shape[1])

    sigma = np.full(residuals.shape[:2], np.nan)
    centred = sigma.copy()
    fans = {}
    for word in dict.fromkeys(p.word for p in prompts):
        a, b = (residuals[select(prompts, word, "direction", sense)] for sense in SENSES)
        check_contrast(word, a[:, layer], b[:, layer])
        measured = select(prompts, word, "condition", *CONDITIONS) + select(prompts, word, "gradient", *SENSES)
        sigma[measured] = order_parameter(residuals[measured], contrast(a[:, layer], b[:, layer]))
        centred[measured] = centred_order_parameter(residuals[measured], contrast(a, b), midpoint(a, b))
        fan = np.stack([sigma[select(prompts, word, "condition", c)].mean(axis=0) for c in CONDITIONS])
        fans[word] = describe_fan(fan, a[:, layer], b[:, layer])

    with stage.output() as folder:
        np.save(folder / "sigma.npy", sigma)
        np.save(folder / "centred_sigma.npy", centred)
        ordered = sum(bool(fan["ordered"]) for fan in fans.values())
        write_json(folder / "summary.json", {"n_words": len(fans), "ordered_words": ordered, "words": fans})


if __name__ == "__main__":
    run(main)

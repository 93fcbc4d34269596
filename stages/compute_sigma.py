"""The order parameter σ of every word's five conditions at every layer, plain and centred."""

import numpy as np

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.activations import Activations, weaknesses
from permeation.meaning.sigma import fan_rows, layer_index, measure_fans
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/compute_sigma/: summary.json and plots/sigma.json."""
    activations = Activations.read(stage.input("extract_activations"))
    fans = measure_fans(activations, layer_index(stage.config.sigma.direction_layer, activations.at_word.shape[1]))
    summary = {
        "n_words": len(fans),
        "ordered_words": sum(fan.ordered for fan in fans.values()),
        "order_tau": float(np.mean([fan.order_tau for fan in fans.values()])),
        "collapse_variance": float(np.mean([fan.collapse_variance for fan in fans.values()])),
        **weaknesses(activations.prompts),
        "words": {word: {"separation": fan.separation} for word, fan in fans.items()},
    }
    with stage.output() as folder:
        write_json(folder / "summary.json", {"sigma": summary})
        write_rows(folder / "plots" / "sigma.json", fan_rows(fans))


if __name__ == "__main__":
    run(main)

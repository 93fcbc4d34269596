"""The order parameter σ of every word's five conditions, or of the two senses of a table, at every layer."""

import numpy as np

from permeation.meaning.activations import Activations, weaknesses
from permeation.meaning.readouts import sense_fans
from permeation.meaning.sigma import fan_rows, layer_index, measure_fans
from permeation.meaning.words import CONDITIONS, SENSES
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/compute_sigma/: summary.json and plots/sigma.json."""
    activations = Activations.read(stage.input("extract_activations"))
    layer = layer_index(stage.config.sigma.direction_layer, activations.at_word.shape[1])
    fans = (sense_fans if activations.labelled else measure_fans)(activations, layer)
    summary = {"n_words": len(fans), "words": {word: {"separation": fan.separation} for word, fan in fans.items()}}
    if not activations.labelled:
        summary |= weaknesses(activations.prompts) | {
            "ordered_words": sum(fan.ordered for fan in fans.values()),
            "order_tau": float(np.mean([fan.order_tau for fan in fans.values()])),
            "collapse_variance": float(np.mean([fan.collapse_variance for fan in fans.values()])),
        }
    stage.write({"sigma": summary}, {"sigma": fan_rows(fans, SENSES if activations.labelled else CONDITIONS)})

"""What g is: null models, halves, another h, before the word, predicted; and the senses decoded on held-out prompts."""

from permeation.meaning.activations import Activations
from permeation.meaning.controls import run_controls
from permeation.meaning.sigma import layer_index
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/controls/: summary.json, plots/nulls.json, plots/controls.json, plots/decoding.json."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    layer = layer_index(config.sigma.direction_layer, activations.at_word.shape[1])
    g = config.response.field, config.g.exclude_final
    chance = config.nulls.draws, config.nulls.permutations, config.bootstrap.resamples
    stage.write(*run_controls(activations, layer, *g, *chance, config.decode.threshold, config.seed))

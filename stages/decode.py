"""Decode a prompt's sense at every layer along directions that other prompts gave: AUC, d′, p-values."""

from permeation.frame import progress
from permeation.frame.tables import write_json, write_rows
from permeation.meaning.activations import Activations
from permeation.meaning.decode_words import DIRECTIONS, TESTS, decode_words, write_decoding_p
from permeation.meaning.sigma import layer_index
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/decode/: p-values, and plots/decoding.json, per test, direction, word (and their mean) and layer."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    layer = layer_index(config.sigma.direction_layer, activations.at_word.shape[1])
    draws = config.decode.permutations, config.bootstrap.resamples, config.seed
    bar = progress.each([(test, along) for test in TESTS for along in DIRECTIONS], desc="decoding")
    decoded = [decode_words(activations, layer, test, along, *draws) for test, along in bar]
    with stage.output() as folder:
        write_decoding_p(folder, decoded)
        write_rows(folder / "plots" / "decoding.json", [row for each in decoded for row in each.rows()])
        write_json(folder / "summary.json", {each.name: each.summary(config.decode.threshold) for each in decoded})


if __name__ == "__main__":
    run(main)

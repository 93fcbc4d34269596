"""What g is: the headline figures with another h, without drift, before the word, and predicted from geometry."""

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.activations import Activations
from permeation.meaning.controls import run_controls
from permeation.meaning.decode_words import read_decoding_p
from permeation.meaning.sigma import layer_index
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/controls/: summary.json, with all p-values of the meaning axis corrected, and plots/controls.json."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    decoding_p = read_decoding_p(stage.input("decode"))
    controls = run_controls(
        activations,
        layer_index(config.sigma.direction_layer, activations.at_word.shape[1]),
        config.controls.permutations,
        config.nulls.draws,
        config.bootstrap.resamples,
        config.seed,
    )
    with stage.output() as folder:
        write_json(folder / "summary.json", controls.summary(config.g.exclude_final, decoding_p))
        write_rows(folder / "plots" / "controls.json", controls.rows())


if __name__ == "__main__":
    run(main)

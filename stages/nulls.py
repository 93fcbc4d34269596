"""Compare σ and g with null models in which the words' senses mean nothing."""

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.activations import Activations
from permeation.meaning.drift import measure_drift
from permeation.meaning.factors import word_residuals
from permeation.meaning.sigma import layer_index
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/nulls/: summary.json, plots/nulls.json (mean g by null model), plots/meaning.json (parts of σ)."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    words = word_residuals(activations, layer_index(config.sigma.direction_layer, activations.at_word.shape[1]))
    drift = measure_drift(words, config.response.field, config.nulls.draws, config.seed)
    with stage.output() as folder:
        write_json(folder / "summary.json", drift.summary(config.g.exclude_final))
        write_rows(folder / "plots" / "nulls.json", drift.null_rows())
        write_rows(folder / "plots" / "meaning.json", drift.part_rows())


if __name__ == "__main__":
    run(main)

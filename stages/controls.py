"""What g is: null models, halves, another h, before the word, predicted; and the senses decoded on held-out prompts."""

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.activations import Activations
from permeation.meaning.controls import run_controls
from permeation.meaning.sigma import layer_index
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/controls/: summary.json, plots/nulls.json, plots/controls.json, plots/decoding.json."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    found, tables = run_controls(
        activations,
        layer_index(config.sigma.direction_layer, activations.at_word.shape[1]),
        config.response.field,
        config.g.exclude_final,
        config.nulls.draws,
        config.nulls.permutations,
        config.bootstrap.resamples,
        config.decode.threshold,
        config.seed,
    )
    with stage.output() as folder:
        write_json(folder / "summary.json", found)
        for name, rows in tables.items():
            write_rows(folder / "plots" / f"{name}.json", rows)


if __name__ == "__main__":
    run(main)

"""What g is: null models, halves, another h, before the word, predicted; and the senses decoded on held-out prompts."""

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.activations import Activations
from permeation.meaning.controls import run_controls
from permeation.meaning.sigma import layer_index
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/controls/: summary.json, plots/nulls.json, plots/controls.json, plots/decoding.json."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    resamples = config.bootstrap.resamples
    controls = run_controls(
        activations,
        layer_index(config.sigma.direction_layer, activations.at_word.shape[1]),
        config.response.field,
        config.g.exclude_final,
        config.nulls.draws,
        config.nulls.permutations,
        resamples,
        config.seed,
    )
    decoded = controls.decoded
    summary = {
        "g": controls.summary(resamples, config.seed),
        "decode": {name: each.summary(config.decode.threshold) for name, each in decoded.items()},
    }
    with stage.output() as folder:
        write_json(folder / "summary.json", summary)
        write_rows(folder / "plots" / "nulls.json", controls.null_rows())
        write_rows(folder / "plots" / "controls.json", controls.rows())
        write_rows(folder / "plots" / "decoding.json", [row for each in decoded.values() for row in each.rows()])


if __name__ == "__main__":
    run(main)

"""When the model uses a sense: shift the residual stream at the word and see what the model then expects to follow."""

from functools import partial

from permeation.frame import progress
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.measure_uses import NEUTRAL, Shifting, measure_uses
from permeation.meaning.residuals import tokenize
from permeation.meaning.sigma import layer_index
from permeation.models.layers import spread_layers
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/intervene/: summary.json, plots/intervene.json (R), plots/depths.json (AUC, R and g on one axis)."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    n_layers = activations.at_word.shape[1]
    layers = spread_layers(config.intervene.layers, 1, n_layers - 1)
    source = stage.input("model")
    tokenizer, vocabulary = load_tokenizer(source), read_json(source / "model.json")["d_vocab"]
    sequences = tokenize(tokenizer, [p.text for p in activations.prompts], config.activations.prepend_bos)
    (after, *_) = tokenizer(NEUTRAL, add_special_tokens=False).input_ids
    prompts = sum(2 * len(pairs) for pairs in direction_pairs(activations.prompts).values())
    shifting = Shifting(
        partial(load_model, source, stage.device),
        after,
        sequences,
        activations,
        layer_index(config.sigma.direction_layer, n_layers),
        config.seed,
        folders=(source,),
    )
    total = prompts * len(layers)
    with progress.bar(total, "interventions", "run") as bar, stage.engine() as engine:
        uses = measure_uses(shifting, layers, config.intervene.clean_auc, vocabulary, bar.update, engine)
    with stage.output() as folder:
        summary = uses.summary(config.decode.threshold, config.bootstrap.resamples, config.seed)
        write_json(folder / "summary.json", summary)
        write_rows(folder / "plots" / "intervene.json", uses.rows())
        write_rows(folder / "plots" / "depths.json", uses.depth_rows())


if __name__ == "__main__":
    run(main)

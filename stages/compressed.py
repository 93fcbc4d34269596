"""What models with compressed W_Q and W_K keep of the words' senses, beside their perplexity."""

import torch

from permeation.frame import progress
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.heads.kept import KeptSense, near
from permeation.heads.sense import measure_sense
from permeation.meaning.activations import Activations
from permeation.meaning.measure_uses import NEUTRAL
from permeation.meaning.residuals import tokenize
from permeation.meaning.sigma import layer_index
from permeation.models.layers import spread_layers
from permeation.models.load import load_folded
from permeation.models.tokenizer import load_tokenizer
from permeation.rivals.base import Problem
from permeation.rivals.registry import METHODS
from permeation.weights.inject import injected
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/compressed/: summary.json, plots/compressed.json (a row a model and measure)."""
    config, settings = stage.config, stage.config.compressed
    activations = Activations.read(stage.input("extract_activations"))
    source, weights, moments = stage.input("model"), stage.input("extract_wqk"), stage.input("moments")
    chosen = near(read_json(stage.input("rivals") / "rows.json"), settings.ratios, settings.methods)
    tokenizer = load_tokenizer(source)
    sequences = tokenize(tokenizer, [prompt.text for prompt in activations.prompts], config.activations.prepend_bos)
    (after, *_) = tokenizer(NEUTRAL, add_special_tokens=False).input_ids
    n_layers = activations.at_word.shape[1]
    layers = spread_layers(settings.layers, 1, n_layers - 1)
    direction_layer = layer_index(config.sigma.direction_layer, n_layers)
    problem = Problem.read(source, weights, moments, config.seed)
    model = load_folded(source, config.wqk.fold_norm, stage.device)
    asked = (activations, sequences, after, layers, direction_layer, config.seed)

    found, rival, method = [], None, None
    with progress.bar(1 + len(chosen), "sense of compressed models", "model") as bar:
        untouched = measure_sense(model, *asked)
        bar.update()
        for row in chosen:
            if row["method"] != method:  # rows of a method stand together; a fitted rival is large
                method, rival = row["method"], None
                rival = METHODS[method].fit(problem)
            assert rival is not None
            with injected(model, **rival.apply(row["size"]).to(torch.float32).tensors()):
                found.append((row, measure_sense(model, *asked)))
            bar.update()
    kept = KeptSense(untouched, found, config.bootstrap.resamples, config.seed)
    with stage.output() as folder:
        write_json(folder / "summary.json", kept.summary())
        write_rows(folder / "plots" / "compressed.json", kept.rows())


if __name__ == "__main__":
    run(main)

"""Run every prompt through the model and keep the residual stream at the word that ends it, and before the word."""

from pathlib import Path

import numpy as np

from permeation.frame import progress
from permeation.frame.tables import read_json
from permeation.meaning.activations import Activations
from permeation.meaning.residuals import before_word, residuals_at, tokenize_prompts
from permeation.meaning.words import read_words
from permeation.models.load import load_bridge
from permeation.models.tokenizer import load_tokenizer
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/extract_activations/: the prompts and their residual stream, per layer."""
    prompts = [prompt for entry in read_words(Path(stage.place(stage.config.words))) for prompt in entry.prompts]
    source = stage.input("model")
    tokenizer, n_ctx = load_tokenizer(source), read_json(source / "model.json")["n_ctx"]
    sequences = tokenize_prompts(tokenizer, prompts, stage.config.activations.prepend_bos, n_ctx)
    before = before_word(tokenizer, prompts, sequences)
    positions = [(len(sequence) - 1, place) for sequence, place in zip(sequences, before, strict=True)]
    bridge = load_bridge(source, stage.device)
    residuals = np.empty((len(prompts), 2, bridge.cfg.n_layers + 1, bridge.cfg.d_model), np.float32)
    with progress.bar(sum(map(len, sequences)), "residual stream", "tok") as bar:
        for batch, residual in residuals_at(bridge, sequences, positions, stage.config.activations.batch_size):
            residuals[batch] = residual
            bar.update(sum(len(sequences[i]) for i in batch))
    with stage.output() as folder:
        Activations(tuple(prompts), residuals[:, 0], residuals[:, 1]).write(folder)


if __name__ == "__main__":
    run(main)

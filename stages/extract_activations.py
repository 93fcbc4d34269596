"""Run every prompt through the model and keep the residual stream at the word that ends it, and before the word."""

from pathlib import Path

import numpy as np

from permeation.frame import progress
from permeation.frame.tables import read_json, write_json
from permeation.meaning.activations import Activations
from permeation.meaning.residuals import before_word, residuals_at, tokenize_prompts
from permeation.meaning.words import read_words
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/extract_activations/: the prompts and their residual stream, per layer; the senses' names."""
    config, source = stage.config.activations, stage.input("model")
    words = read_words(Path(stage.place(stage.config.words)))
    prompts = [prompt for entry in words for prompt in entry.prompts]
    tokenizer, sizes = load_tokenizer(source), read_json(source / "model.json")
    sequences = tokenize_prompts(tokenizer, prompts, config.prepend_bos, sizes["n_ctx"])
    before = before_word(tokenizer, prompts, sequences)
    positions = [(len(sequence) - 1, place) for sequence, place in zip(sequences, before, strict=True)]
    residuals = np.empty((len(prompts), 2, sizes["n_layers"] + 1, sizes["d_model"]), np.float32)
    batches = residuals_at(load_model(source, stage.device), sequences, positions, config.batch_size)
    for batch, residual in progress.each(batches, "residual stream", -(-len(prompts) // config.batch_size)):
        residuals[batch] = residual
    with stage.output() as folder:
        Activations(tuple(prompts), residuals[:, 0], residuals[:, 1]).write(folder)
        write_json(folder / "summary.json", {"sigma": {"senses": {entry.word: dict(entry.senses) for entry in words}}})


if __name__ == "__main__":
    run(main)

"""Run every prompt through the model and keep the residual stream at its last token, the target word, per layer."""

from dataclasses import asdict

import numpy as np
from tqdm import tqdm

from permeation.frame.tables import read_json, write_json
from permeation.meaning.residuals import last_token_residuals, tokenize_prompts
from permeation.meaning.words import read_words
from permeation.models.load import load_bridge
from permeation.models.tokenizer import load_tokenizer
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/extract_activations/: residuals.npy (prompts, L + 1, d_model), prompts.json, senses.json."""
    entries = read_words(stage.project / stage.config.words)
    prompts = [prompt for entry in entries for prompt in entry.prompts]
    source = stage.input("model")
    sequences = tokenize_prompts(
        load_tokenizer(source),
        prompts,
        stage.config.activations.prepend_bos,
        read_json(source / "model.json")["n_ctx"],
    )
    bridge = load_bridge(source, stage.device)
    shape = (len(prompts), bridge.cfg.n_layers + 1, bridge.cfg.d_model)
    residuals = np.empty(shape, np.float32)
    with tqdm(total=sum(map(len, sequences)), desc="residual stream", unit="tok", disable=None) as bar:
        for batch, residual in last_token_residuals(bridge, sequences, stage.config.activations.batch_size):
            residuals[batch] = residual
            bar.update(sum(len(sequences[i]) for i in batch))
    with stage.output() as folder:
        np.save(folder / "residuals.npy", residuals)
        write_json(folder / "prompts.json", [asdict(prompt) for prompt in prompts])
        write_json(folder / "senses.json", {entry.word: dict(entry.senses) for entry in entries})


if __name__ == "__main__":
    run(main)

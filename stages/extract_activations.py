"""Run every prompt through the model and keep the residual stream at the word and beside it, layer by layer."""

from typing import Any

from permeation.frame import progress
from permeation.frame.tables import read_json, sha256, write_json
from permeation.meaning.activations import PLACES, write_activations
from permeation.meaning.residuals import mean_embedding, prompt_places, residuals_at, sentence_places, tokenize_prompts
from permeation.meaning.sentences import read_prompts
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/extract_activations/: the prompts and their residual stream, per layer; the senses' names."""
    config, source, path = stage.config.activations, stage.input("model"), stage.words()
    words, left_out = read_prompts(path)
    prompts = [prompt for entry in words for prompt in entry.prompts]
    tokenizer, sizes, model = load_tokenizer(source), read_json(source / "model.json"), load_model(source, stage.device)
    sequences = tokenize_prompts(tokenizer, prompts, config.prepend_bos, sizes["n_ctx"])
    positions = (sentence_places if left_out else prompt_places)(tokenizer, prompts, sequences)
    batches = residuals_at(model, sequences, positions, config.batch_size)
    batches = progress.each(batches, "residual stream", -(-len(prompts) // config.batch_size))
    context = mean_embedding(model, sequences, [at[1] for at in positions])
    shape = sizes["n_layers"] + 1, sizes["d_model"]
    summary: dict[str, Any] = {"senses": {entry.word: dict(entry.senses) for entry in words}}
    if left_out:
        summary["sentences"] = {"kept": len(prompts), "left_out": left_out, "sha256": sha256([path])}
    with stage.output() as folder:
        write_activations(folder, prompts, PLACES[: len(positions[0])], shape, batches, context)
        write_json(folder / "summary.json", {"sigma": summary})

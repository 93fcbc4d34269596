"""The logit lens on the condition prompts: which tokens lead at each layer, and from where on the final one does."""

import numpy as np
import torch

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.activations import Activations
from permeation.meaning.logit_lens import lead_layer, probabilities
from permeation.meaning.residuals import tokenize
from permeation.meaning.words import CONDITIONS
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.nll import nats_per_byte
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/logit_lens/: plots/logit_lens.json, the first tokens per word, condition and layer with the mean of
    their probabilities over the condition's prompts; summary.json, with what a byte of these prompts costs the model.
    """
    activations, source = Activations.read(stage.input("extract_activations")), stage.input("model")
    model, tokenizer = load_model(source, stage.device), load_tokenizer(source)
    rows, leads = [], []
    for word in activations.words:
        for condition in CONDITIONS:
            chosen = activations.of(word, "condition", condition)
            found = probabilities(model, chosen)
            leads.append(lead_layer(found.argmax(dim=-1).cpu().numpy()))
            top = torch.topk(found.mean(dim=0), min(stage.config.logit_lens.top, found.shape[-1]))
            rows += [
                {"word": word, "condition": condition, "layer": layer, "rank": rank + 1}
                | {"token": tokenizer.decode([token]), "probability": probability}
                for layer, (tokens, values) in enumerate(zip(top.indices.tolist(), top.values.tolist(), strict=True))
                for rank, (token, probability) in enumerate(zip(tokens, values, strict=True))
            ]
    texts = [prompt.text for prompt in activations.prompts if prompt.role == "condition"]
    sequences = tokenize(tokenizer, texts, stage.config.activations.prepend_bos)
    last = activations.at_word.shape[1] - 1
    depth = np.concatenate(leads) / last
    with stage.output() as folder:
        write_rows(folder / "plots" / "logit_lens.json", rows)
        write_json(
            folder / "summary.json",
            {
                "lens_lead_depth": float(np.median(depth)),
                "lens_lead_depth_min": float(depth.min()),
                "prompts_nats_per_byte": nats_per_byte(model, sequences, texts),
            },
        )


if __name__ == "__main__":
    run(main)

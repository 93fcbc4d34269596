"""The logit lens on the condition prompts: which tokens lead at each layer, and from where on the final one does."""

import numpy as np
import torch

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.logit_lens import lead_layer, probabilities
from permeation.meaning.words import CONDITIONS, read_prompts, select
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/logit_lens/: top.json, the tokens per word, condition and layer with the mean of their probabilities
    over the condition's prompts; plots/logit_lens.json, the first of them.
    """
    activations, source = stage.input("extract_activations"), stage.input("model")
    prompts = read_prompts(activations / "prompts.json")
    residuals = np.load(activations / "residuals.npy", mmap_mode="r")
    model, tokenizer = load_model(source, stage.device), load_tokenizer(source)
    rows, leads = [], []
    for word in dict.fromkeys(p.word for p in prompts):
        for condition in CONDITIONS:
            chosen = residuals[select(prompts, word, "condition", condition)]
            found = probabilities(model, chosen)
            leads.append(lead_layer(found.argmax(dim=-1).cpu().numpy()))
            top = torch.topk(found.mean(dim=0), min(stage.config.logit_lens.top, found.shape[-1]))
            rows += [
                {"word": word, "condition": condition, "layer": layer, "rank": rank + 1}
                | {"token": tokenizer.decode([token]), "probability": probability}
                for layer, (tokens, values) in enumerate(zip(top.indices.tolist(), top.values.tolist(), strict=True))
                for rank, (token, probability) in enumerate(zip(tokens, values, strict=True))
            ]
    last = residuals.shape[1] - 1
    depth = np.concatenate(leads) / last
    with stage.output() as folder:
        write_rows(folder / "top.json", rows)
        write_rows(folder / "plots" / "logit_lens.json", [row for row in rows if row["rank"] == 1])
        write_json(
            folder / "summary.json",
            {"lens_lead_depth": float(np.median(depth)), "lens_lead_depth_min": float(depth.min())},
        )


if __name__ == "__main__":
    run(main)

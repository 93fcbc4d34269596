"""Which heads bring the sense of a word: what each writes and does at the word, beside what the weight axis knows."""

from functools import partial
from typing import Any

import numpy as np

from permeation.frame import progress
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.heads.ablate import Ablation
from permeation.heads.beside import low_variance_shares, norm_shares
from permeation.heads.found import FoundHeads
from permeation.heads.measure_roles import measure_roles
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.residuals import tokenize
from permeation.models.load import load_folded, load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.ratio import Baseline
from permeation.weights.pca import KernelPca
from stages import Stage, run

EXPLAINED = 0.9  # of the variance: what lies behind the components that explain so much is of low variance


def main(stage: Stage) -> None:
    """Write data/heads/: summary.json, plots/head_roles.json (the maps), plots/heads_beside.json (a row a head)."""
    config, settings = stage.config, stage.config.heads
    activations = Activations.read(stage.input("extract_activations"))
    source, baseline = stage.input("model"), stage.input("baseline")
    pca, cluster = stage.input("pca"), stage.input("cluster")
    sizes = read_json(source / "model.json")
    layers, heads = sizes["n_layers"], sizes["n_heads"]
    sequences = tokenize(
        load_tokenizer(source), [prompt.text for prompt in activations.prompts], config.activations.prepend_bos
    )
    pairs = direction_pairs(activations.prompts).values()
    total = sum(2 * min(settings.pairs, len(own)) for own in pairs) * layers
    with progress.bar(total, "heads at the word", "run") as bar:
        model = load_model(source, stage.device)
        least = config.intervene.clean_auc
        words = measure_roles(model, activations, sequences, settings.pairs, least, config.seed, bar.update)
    del model
    found = FoundHeads.of(*words, settings.permutations, config.seed)

    whole = Baseline.read(baseline).windows
    scored = prepare_for_scoring(
        load_folded(source, config.wqk.fold_norm, stage.device), config.perplexity.dtype, settings.context
    )
    journal = stage.journal(
        source, baseline, settings=(config.wqk, config.perplexity, settings.windows, settings.context)
    )
    ablation = Ablation.fit(scored, whole, settings.windows, settings.context)
    nll = np.empty((layers, heads, settings.windows))
    with progress.bar(layers * heads, "perplexity without a head", "head") as bar:
        for layer, head in np.ndindex(layers, heads):
            measure = partial(without_head, ablation, scored, layer, head)
            nll[layer, head] = journal.remember(measure, {"layer": layer, "head": head})["nll"]
            bar.update()
    costs = [[ablation.baseline.ratio(own) for own in of_layer] for of_layer in nll]
    cost = np.log([[each.value for each in of_layer] for of_layer in costs])

    by_head = (layers, heads)
    forms = {form: KernelPca.read(pca, form) for form in ("gram", "score")}
    properties = {
        "norm_score": norm_shares(forms["score"]).reshape(by_head),
        "low_variance_score": low_variance_shares(forms["score"], EXPLAINED).reshape(by_head),
        "low_variance_gram": low_variance_shares(forms["gram"], EXPLAINED).reshape(by_head),
        "cost": cost,
        "attention": found.attention,
    }
    labels = [row["cluster"] for row in read_json(cluster / "plots" / "heads.json") if row["form"] == "gram"]
    resamples = config.bootstrap.resamples
    with stage.output() as folder:
        summary = found.summary(settings.permutations, resamples, config.seed)
        summary["costly"] = sum(each.low > 1 for of_layer in costs for each in of_layer)
        summary["beside"] = found.beside(properties, np.array(labels), resamples, settings.permutations, config.seed)
        write_json(folder / "summary.json", summary)
        write_rows(folder / "plots" / "head_roles.json", found.rows())
        rows = (
            {"layer": layer, "head": head, "cluster": labels[layer * heads + head]}
            | {role: float(found.maps[role][layer, head]) for role in ("exchange", "direct")}
            | {name: float(values[layer, head]) for name, values in properties.items()}
            | {"cost_low": float(np.log(costs[layer][head].low)), "cost_high": float(np.log(costs[layer][head].high))}
            for layer, head in np.ndindex(*by_head)
        )
        write_rows(folder / "plots" / "heads_beside.json", rows)


def without_head(ablation: Ablation, model: Any, layer: int, head: int) -> dict[str, list[float]]:
    """The NLL of each window without a head, as the journal keeps it."""
    return {"nll": ablation.nll(model, layer, head).tolist()}


if __name__ == "__main__":
    run(main)

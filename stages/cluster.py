"""Group the heads by k-means on their PCA coefficients, let each group share one W_QK and measure the perplexity."""

from functools import partial
from typing import Any

import numpy as np
from safetensors.torch import load_file
from tqdm import tqdm

from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json, write_rows
from permeation.models.load import load_folded
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.ratio import Baseline
from permeation.weights.cluster import agreement, k_means, silhouette
from permeation.weights.forms import FORMS
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca
from permeation.weights.replace import REPLACED, measure_mixing, ratio_tables
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/cluster/: rows.json, by k and choice of layers; labels.json, heads' groups by k and form; plots/."""
    config, settings = stage.config, stage.config.cluster
    forms = {
        form: KernelPca.from_tensors(load_file(stage.input("pca") / f"{form}.safetensors"), config.pca.center)
        for form in FORMS
    }
    pca = forms["gram"]
    if settings.k[-1] > pca.count:
        raise PermeationError(f"cluster.k asks for {settings.k[-1]}; this model has {pca.count} heads")
    if settings.components != "all" and settings.components > pca.count:
        raise PermeationError(f"cluster.components is {settings.components}; this model has {pca.count} heads")
    kept = pca.count if settings.components == "all" else settings.components
    coefficients = {form: fit.coefficients[:, :kept].numpy() for form, fit in forms.items()}

    comparison = Baseline.read(stage.input("baseline"), config.perplexity)
    model = load_folded(stage.input("model"), config.wqk.fold_norm, stage.device)
    injection = GramInjection.fit(read_heads(model))
    model = prepare_for_scoring(model, comparison.settings.dtype, comparison.settings.context)
    journal = stage.journal(
        *(stage.input(name) for name in ("model", "baseline", "pca")),
        settings=(config.wqk, config.pca, config.perplexity, config.seed, settings.share, settings.components),
    )
    groups = {k: {form: k_means(points, k, config.seed) for form, points in coefficients.items()} for k in settings.k}
    labels = {str(k): {form: found.labels for form, found in each.items()} for k, each in groups.items()}

    def measure(k: int, replaced: str) -> dict[str, Any]:
        mixing = groups[k]["gram"].mixing(settings.share)  # the form that is injected
        measured = measure_mixing(model, injection, mixing, comparison, bar.update, replaced)
        return {"k": str(k), "replaced": replaced, **measured}

    runs = [(k, replaced) for k in settings.k for replaced in REPLACED]
    rows = []
    total = len(runs) * comparison.windows.tokens.numel()
    with tqdm(total=total, desc="k clusters", unit="tok", unit_scale=True, disable=None) as bar:
        for done, (k, replaced) in enumerate(runs, start=1):
            rows.append(journal.remember(partial(measure, k, replaced), {"k": k, "replaced": replaced}))
            bar.update(done * comparison.windows.tokens.numel() - bar.n)

    per_layer = injection.heads.W_Q.shape[1]
    layer = np.arange(pca.count) // per_layer
    agreements: dict[str, dict[str, float]] = {}
    for count, partitions in labels.items():
        for pair, index in agreement(partitions | {"layer": layer}).items():
            agreements.setdefault(pair, {})[count] = index
    with stage.output() as folder:
        write_json(folder / "rows.json", rows)
        write_json(
            folder / "labels.json",
            {k: {form: partition.tolist() for form, partition in found.items()} for k, found in labels.items()},
        )
        summary = {
            "replaced_heads": {str(k): each["gram"].replaced(settings.share) for k, each in groups.items()},
            "agreement": agreements,
            "silhouette": {
                form: {k: silhouette(points, found[form]) for k, found in labels.items()}
                for form, points in coefficients.items()
            },
        }
        write_json(folder / "summary.json", ratio_tables(rows, "k") | summary)
        write_rows(folder / "plots" / "clusters.json", ({**row, "k": int(row["k"])} for row in rows))
        # Each head's layer, first two coefficients, and group at the largest k, in each form.
        write_rows(
            folder / "plots" / "heads.json",
            (
                {
                    "form": form,
                    "layer": i // per_layer,
                    "head": i % per_layer,
                    "component_1": float(fit.coefficients[i, 0]),
                    "component_2": float(fit.coefficients[i, 1]),
                    "cluster": int(labels[str(settings.k[-1])][form][i]),
                }
                for form, fit in forms.items()
                for i in range(pca.count)
            ),
        )


if __name__ == "__main__":
    run(main)

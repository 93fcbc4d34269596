"""Group the heads by k-means on their PCA coefficients, let each group share one W_QK and measure the perplexity."""

from functools import partial
from typing import Any

from safetensors.torch import load_file
from tqdm import tqdm

from permeation.errors import PermeationError
from permeation.files import write_json, write_rows
from permeation.model import load_for_injection
from permeation.perplexity import Comparison, ratio_table
from permeation.scoring import ready
from permeation.stage import Stage, run
from permeation.weights.cluster import k_means
from permeation.weights.decompose import KernelPca
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection, measure_mixing


def main(stage: Stage) -> None:
    """Write data/cluster/: rows.json, one row per k, and labels.json, each head's group per k; plots/."""
    config, settings = stage.config, stage.config.cluster
    pca = KernelPca.from_tensors(load_file(stage.input("pca") / "gram.safetensors"), config.pca.center)
    if settings.k[-1] > pca.count:
        raise PermeationError(f"cluster.k asks for {settings.k[-1]}; this model has {pca.count} heads")
    if settings.components != "all" and settings.components > pca.count:
        raise PermeationError(f"cluster.components is {settings.components}; this model has {pca.count} heads")
    kept = pca.count if settings.components == "all" else settings.components
    coefficients = pca.coefficients[:, :kept].numpy()

    comparison = Comparison.read(stage.input("baseline"), config.perplexity)
    model = load_for_injection(stage.input("model"), config.wqk.fold_norm, stage.device)
    injection = GramInjection.fit(read_heads(model))
    model = ready(model, comparison.dtype, comparison.windows.shape[1])
    journal = stage.journal(
        *(stage.input(name) for name in ("model", "baseline", "pca")),
        settings=(config.wqk, config.pca, config.perplexity, config.seed, settings.share, settings.components),
    )
    groups = {k: k_means(coefficients, k, config.seed) for k in settings.k}

    def measure(k: int) -> dict[str, Any]:
        measured = measure_mixing(model, injection, groups[k].mixing(settings.share), comparison, bar.update)
        return {"k": str(k), **measured, "replaced_heads": groups[k].replaced(settings.share)}

    rows = []
    total = len(settings.k) * comparison.windows.numel()
    with tqdm(total=total, desc="k clusters", unit="tok", unit_scale=True, disable=None) as bar:
        for done, k in enumerate(settings.k, start=1):
            rows.append(journal.remember(partial(measure, k), {"k": k}))
            bar.update(done * comparison.windows.numel() - bar.n)
    with stage.output() as folder:
        write_json(folder / "rows.json", rows)
        write_json(folder / "labels.json", {str(k): clusters.labels.tolist() for k, clusters in groups.items()})
        summary = {"replaced_heads": {row["k"]: row["replaced_heads"] for row in rows}}
        write_json(folder / "summary.json", ratio_table(rows, "k") | summary)
        write_rows(folder / "plots" / "clusters.json", ({**row, "k": int(row["k"])} for row in rows))
        # Each head's layer, first two coefficients, and group at the largest k.
        places = zip(coefficients[:, :2].tolist(), groups[settings.k[-1]].labels.tolist(), strict=True)
        per_layer = injection.heads.W_Q.shape[1]
        write_rows(
            folder / "plots" / "heads.json",
            (
                {"layer": i // per_layer, "head": i % per_layer, "component_1": x, "component_2": y, "cluster": cluster}
                for i, ((x, y), cluster) in enumerate(places)
            ),
        )


if __name__ == "__main__":
    run(main)

"""Perplexity with the heads grouped by k-means on their PCA coefficients, each group sharing one W_QK."""

from functools import partial

from permeation.frame.errors import PermeationError
from permeation.frame.progress import each
from permeation.frame.tables import write_results
from permeation.stage import Stage
from permeation.weights.cluster import between_clusters, k_means, sharing
from permeation.weights.forms import LOOKED_AND_WRITTEN
from permeation.weights.heads import Heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca
from permeation.weights.replace import REPLACED, Scorer, measure, mixing_job, ratio_tables, write_measured


def main(stage: Stage) -> None:
    """Write data/cluster/: rows.json and nll.npy, by k and choice of layers; summary.json; plots/."""
    config, asked, scoring = stage.config, stage.config.cluster, stage.config.perplexity
    model, baseline, weights, components = (stage.input(n) for n in ("model", "baseline", "extract_wqk", "pca"))
    injection, pca = GramInjection.fit(Heads.read(weights)), KernelPca.read(components, "gram")
    n_layers, per_layer = injection.heads.W_Q.shape[:2]
    if not (wanted := [k for k in asked.k if k <= injection.heads.count]):
        raise PermeationError(f"cluster.k is {list(asked.k)}; this model has {injection.heads.count} heads")
    kept = None if asked.components == "all" else asked.components
    groups = {k: k_means(pca.coefficients[:, :kept].numpy(), k, config.seed) for k in wanted}

    jobs = []
    for k in asked.k:
        mixing = partial(sharing, groups[k]) if k in groups else None
        for replaced, first in REPLACED.items():
            jobs.append(mixing_job({"k": k, "replaced": replaced}, injection, mixing, range(first, n_layers)))
    scorer = Scorer.load(model, baseline, stage.device, scoring.dtype, scoring.tolerance, scoring.batch_size)
    journal = stage.journal(model, baseline, weights, components, settings=(scoring, config.seed, kept))
    with stage.engine() as engine:
        measured = list(each(measure(jobs, scorer, journal, engine), "k clusters", len(jobs)))

    def clustered(form: str) -> dict[str, float]:
        pca = KernelPca.read(components, form)
        return {str(k): between_clusters(pca, k, config.seed) for k in wanted}

    rows = [found.row for found in measured]
    summary = {
        **ratio_tables(rows, "k"),
        "clustered": {form: clustered(form) for form in LOOKED_AND_WRITTEN},
        "clustered_null": {form: clustered(f"{form}_null") for form in LOOKED_AND_WRITTEN},
    }
    plots = {"clusters": [row for row in rows if row["ratio"] is not None]}
    labels = enumerate(groups[wanted[-1]].tolist())
    plots["groups"] = [{"layer": i // per_layer, "head": i % per_layer, "group": group} for i, group in labels]
    with stage.output() as folder:
        write_measured(folder, measured, scorer.baseline)
        write_results(folder, {"clusters": summary}, plots)

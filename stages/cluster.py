"""Group the heads by k-means on their PCA coefficients, let each group share one W_QK and measure the perplexity."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json, write_rows
from permeation.weights.cluster import agreements, head_rows, k_means, silhouettes
from permeation.weights.forms import FORMS
from permeation.weights.heads import Heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca
from permeation.weights.replace import (
    REPLACED,
    Context,
    Job,
    Unmeasured,
    measure_all,
    mixing_job,
    ratio_tables,
    write_measured,
)
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/cluster/: rows.json and nll.npy, by k and choice of layers; summary.json; plots/."""
    config, settings = stage.config, stage.config.cluster
    inputs = {name: stage.input(name) for name in ("model", "baseline", "extract_wqk", "pca")}
    forms = {form: KernelPca.read(inputs["pca"], form) for form in FORMS}
    count = forms["gram"].count
    if not (wanted := [k for k in settings.k if k <= count]):
        raise PermeationError(f"cluster.k is {list(settings.k)}; this model has {count} heads")
    if settings.components != "all" and settings.components > count:
        raise PermeationError(f"cluster.components is {settings.components}; this model has {count} heads")
    kept = count if settings.components == "all" else settings.components
    points = {form: pca.coefficients[:, :kept].numpy() for form, pca in forms.items()}
    groups = {k: {form: k_means(each, k, config.seed) for form, each in points.items()} for k in wanted}
    injection = GramInjection.fit(Heads.read(inputs["extract_wqk"]))
    n_layers, per_layer = injection.heads.W_Q.shape[:2]

    def jobs() -> Iterator[Job | Unmeasured]:
        for k in settings.k:
            for replaced, first in REPLACED.items():
                key = {"k": k, "replaced": replaced}
                if k not in groups:
                    yield Unmeasured(key, f"more than the model's {count} heads")
                    continue
                mixing = partial(groups[k]["gram"].mixing, settings.share)  # the form that is injected
                yield mixing_job(key, injection, mixing, range(first, n_layers))

    of = (config.wqk, config.perplexity, config.seed, settings.share, settings.components)
    journal = stage.journal(*inputs.values(), settings=of)
    model, baseline = inputs["model"], inputs["baseline"]
    context = Context.read(model, baseline, config.wqk.fold_norm, stage.device, config.perplexity, journal)
    total = len(groups) * len(REPLACED) * context.tokens_per_job
    with progress.bar(total, "k clusters", "tok") as bar, stage.engine() as engine:
        measured = list(measure_all(jobs(), context, bar.update, engine))

    labels = {str(k): {form: found.labels for form, found in each.items()} for k, each in groups.items()}
    layer = np.arange(count) // per_layer
    with stage.output() as folder:
        write_measured(folder, measured, context.baseline)
        summary = {
            "replaced_heads": {str(k): each["gram"].replaced(settings.share) for k, each in groups.items()},
            "agreement": agreements(labels, layer),
            "silhouette": silhouettes(points, labels),
        }
        rows = [{**each.row, "k": str(each.row["k"])} for each in measured]
        write_json(folder / "summary.json", ratio_tables(rows, "k") | summary)
        write_rows(folder / "plots" / "clusters.json", (each.row for each in measured if each.there))
        write_rows(folder / "plots" / "heads.json", head_rows(forms, labels[str(wanted[-1])], per_layer))


if __name__ == "__main__":
    run(main)

"""Perplexity with the heads' W_QK rebuilt from K components, one layer rebuilt, or one band of components dropped."""

from functools import partial

from permeation.frame.progress import each
from permeation.frame.tables import write_results
from permeation.models.families import spread_layers
from permeation.stage import Stage
from permeation.weights.heads import Heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca
from permeation.weights.replace import REPLACED, Scorer, measure, mixing_job, ratio_tables, write_measured

UNFOLDED = "all layers, norm not folded"


def main(stage: Stage) -> None:
    """Write data/reconstruct/: rows.json and nll.npy (K, layers, bands, K without folding); summary.json; plots/."""
    asked, scoring = stage.config.reconstruct, stage.config.perplexity
    model, baseline, weights, components = (stage.input(n) for n in ("model", "baseline", "extract_wqk", "pca"))
    pca, injection = KernelPca.read(components, "gram"), GramInjection.fit(Heads.read(weights))
    n_layers, half = len(injection.heads.W_Q), max(1, pca.count // 2)
    counts = {str(item): pca.number_of(item) for item in asked.components}

    jobs = []
    for name, count in counts.items():
        mixing = None if count is None else partial(pca.mixing, count)
        for replaced, first in REPLACED.items():
            key = {"components": count, "replaced": replaced}
            jobs.append(mixing_job(key, injection, mixing, range(first, n_layers), {"asked": name}))
    for layer in spread_layers(asked.layers, 0, n_layers - 1):
        key, mixing = {"layer": layer, "components": half}, partial(pca.mixing, half)
        jobs.append(mixing_job(key, injection, mixing, range(layer, layer + 1), windows=asked.windows))
    for band in pca.bands(asked.bands):
        variance = float(pca.explained_variance_ratio[band.start : band.stop].sum())
        mixing = partial(pca.mixing_without, band)
        for replaced, first in REPLACED.items():
            key = {"first": band.start + 1, "last": band.stop, "replaced": replaced}
            jobs.append(mixing_job(key, injection, mixing, range(first, n_layers), {"variance": variance}))

    unfolded, plain = KernelPca.read(components, "unfolded"), GramInjection.fit(Heads.read(weights, name="unfolded"))
    others = []
    for name, count in ((str(item), unfolded.number_of(item)) for item in asked.components):
        mixing = None if count is None else partial(unfolded.mixing, count)
        key = {"components": count, "replaced": UNFOLDED}
        others.append(mixing_job(key, plain, mixing, range(n_layers), {"asked": name}))

    measuring = (model, baseline, stage.device, scoring.dtype, scoring.tolerance, scoring.batch_size)
    journal = stage.journal(model, baseline, weights, components, settings=scoring)
    with stage.engine() as engine:
        scorer = Scorer.load(*measuring)
        measured = list(each(measure(jobs, scorer, journal, engine), "changed W_QK", len(jobs)))
        again = measure(others, Scorer.load(*measuring, fold_norm=False), journal, engine)
        measured += each(again, "norm not folded", len(others))
    rows = [found.row for found in measured]
    by_count = [row for row in rows if "asked" in row]
    by_layer = [row for row in rows if "layer" in row]
    by_band = [row for row in rows if "variance" in row]
    of_bands = ratio_tables([row | {"band": f"{row['first']}-{row['last']}"} for row in by_band], "band")
    of_bands_kept = of_bands.pop("first_layer_kept")
    found, bare = ratio_tables(by_count, "asked"), ratio_tables(by_count, "asked", UNFOLDED)
    summary = {
        "components": {name: count for name, count in counts.items() if count is not None},
        **found,
        "first_layer_kept": found["first_layer_kept"] | {f"band_{key}": each for key, each in of_bands_kept.items()},
        "unfolded": {name: bare[name] for name in ("ratio", "ratio_low", "ratio_high")},
        "layer_components": half,
        "layer_ratio": {str(row["layer"]): row["ratio"] for row in by_layer},
        **{f"band_{key}": each for key, each in of_bands.items()},
    }
    with stage.output() as folder:
        write_measured(folder, measured, scorer.baseline)
        plots = {"perplexity": [row for row in by_count if row["ratio"] is not None]}
        write_results(folder, {"perplexity": summary}, plots | {"layers": by_layer, "bands": by_band})

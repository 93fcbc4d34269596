"""Where the function lives: the perplexity with one layer rebuilt, and with one band of components dropped."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json, write_rows
from permeation.models.layers import spread_layers
from permeation.weights.heads import Heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca
from permeation.weights.replace import (
    ALL,
    ALL_BUT_FIRST,
    REPLACED,
    Context,
    Job,
    measure_all,
    mixing_job,
    write_measured,
)
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/locate/: rows.json and nll.npy, layers before bands; plots/; summary.json."""
    settings, config = stage.config.locate, stage.config
    inputs = {name: stage.input(name) for name in ("model", "baseline", "extract_wqk", "pca")}
    pca = KernelPca.read(inputs["pca"], "gram")
    injection = GramInjection.fit(Heads.read(inputs["extract_wqk"]))
    n_layers = len(injection.heads.W_Q)
    if settings.bands > pca.count - pca.centred:
        raise PermeationError(
            f"locate.bands is {settings.bands}; accepted: 2 to {pca.count - pca.centred}, one a component"
        )
    layers = spread_layers(settings.layers, 0, n_layers - 1)
    kept = max(1, round(settings.components * pca.count))
    few = pca.mixing(kept)

    def layer_jobs() -> Iterator[Job]:
        for layer in layers:
            yield mixing_job({"layer": layer, "components": kept}, injection, lambda: few, range(layer, layer + 1))

    def band_jobs() -> Iterator[Job]:
        for band in pca.bands(settings.bands):
            variance = float(pca.explained_variance_ratio[band.start : band.stop].sum())
            for replaced, first in REPLACED.items():
                key = {"first": band.start + 1, "last": band.stop, "replaced": replaced}
                mixing = partial(pca.mixing_without, band)
                yield mixing_job(key, injection, mixing, range(first, n_layers), {"variance": variance})

    journal = stage.journal(*inputs.values(), settings=(config.wqk, config.perplexity))
    model, baseline = inputs["model"], inputs["baseline"]
    context = Context.read(model, baseline, config.wqk.fold_norm, stage.device, config.perplexity, journal)
    few_windows = context.first(settings.windows)
    total = len(layers) * few_windows.tokens_per_job + settings.bands * len(REPLACED) * context.tokens_per_job
    with progress.bar(total, "layers and bands", "tok") as bar, stage.engine() as engine:
        single = list(measure_all(layer_jobs(), few_windows, bar.update, engine))
        bands = list(measure_all(band_jobs(), context, bar.update, engine))
    with stage.output() as out:
        write_measured(out, [*single, *bands], context.baseline)
        write_rows(out / "plots" / "layers.json", (each.row for each in single))
        dropped = [each.row for each in bands]
        write_rows(out / "plots" / "bands.json", dropped)
        summary = {
            "components": kept,
            "layer_ratio": {str(each.row["layer"]): each.row["ratio"] for each in single},
            "band_ratio": band_ratios(dropped, ALL),
            "first_layer_kept": {"band_ratio": band_ratios(dropped, ALL_BUT_FIRST)},
        }
        write_json(out / "summary.json", summary)


def band_ratios(dropped: list[dict[str, Any]], replaced: str) -> dict[str, float]:
    """The ratio of each band by its components."""
    return {f"{row['first']}-{row['last']}": row["ratio"] for row in dropped if row["replaced"] == replaced}


if __name__ == "__main__":
    run(main)

"""Rebuild every head's W_QK from K principal components, put it into the model and measure the perplexity."""

from collections.abc import Iterator
from functools import partial

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json, write_rows
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
    """Write data/reconstruct/: rows.json and nll.npy, by K and choice of layers; summary.json; plots/."""
    config, wanted = stage.config, stage.config.reconstruct.components
    inputs = {name: stage.input(name) for name in ("model", "baseline", "extract_wqk", "pca")}
    pca = KernelPca.read(inputs["pca"], "gram")
    numbers = {asked: pca.number_of(asked) for asked in wanted}
    if not any(numbers.values()):
        raise PermeationError(f"reconstruct.components is {list(wanted)}; this model has {pca.count} heads")
    injection = GramInjection.fit(Heads.read(inputs["extract_wqk"]))

    def jobs() -> Iterator[Job | Unmeasured]:
        for asked, number in numbers.items():
            for replaced, first in REPLACED.items():
                if number is None:
                    columns = {"asked": str(asked), "components": asked, "replaced": replaced}
                    yield Unmeasured(columns, f"more than the model's {pca.count} heads")
                    continue
                layers = range(first, len(injection.heads.W_Q))
                key = {"components": number, "replaced": replaced}
                yield mixing_job(key, injection, partial(pca.mixing, number), layers, {"asked": str(asked)})

    journal = stage.journal(*inputs.values(), settings=(config.wqk, config.perplexity))
    model, baseline = inputs["model"], inputs["baseline"]
    context = Context.read(model, baseline, config.wqk.fold_norm, stage.device, config.perplexity, journal)
    total = sum(number is not None for number in numbers.values()) * len(REPLACED) * context.tokens_per_job
    with progress.bar(total, "K components", "tok") as bar, stage.engine() as engine:
        measured = list(measure_all(jobs(), context, bar.update, engine))
    with stage.output() as folder:
        write_measured(folder, measured, context.baseline)
        counts = {str(asked): number for asked, number in numbers.items() if number is not None}
        tables = ratio_tables([each.row for each in measured], "asked")
        write_json(folder / "summary.json", {"components": counts, **tables})
        write_rows(folder / "plots" / "perplexity.json", (each.row for each in measured if each.there))


if __name__ == "__main__":
    run(main)

"""Rebuild every head's W_QK from K principal components, put it into the model and measure the perplexity."""

from functools import partial
from typing import Any

from safetensors.torch import load_file
from tqdm import tqdm

from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json, write_rows
from permeation.models.load import load_folded
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.ratio import Baseline
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca
from permeation.weights.replace import REPLACED, measure_mixing, ratio_tables
from permeation.weights.settings import Count
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/reconstruct/: rows.json, one row per K and choice of layers; plots/."""
    config, wanted = stage.config, stage.config.reconstruct.components
    pca = KernelPca.from_tensors(load_file(stage.input("pca") / "gram.safetensors"), config.pca.center)
    if too_many := [k for k in wanted if k != "all" and k > pca.count]:
        raise PermeationError(f"reconstruct.components asks for {too_many[0]}; this model has {pca.count} heads")

    comparison = Baseline.read(stage.input("baseline"), config.perplexity)
    model = load_folded(stage.input("model"), config.wqk.fold_norm, stage.device)
    injection = GramInjection.fit(read_heads(model))
    model = prepare_for_scoring(model, comparison.settings.dtype, comparison.settings.context)
    journal = stage.journal(
        *(stage.input(name) for name in ("model", "baseline", "pca")),
        settings=(config.wqk, config.pca, config.perplexity),
    )

    def measure(k: Count, replaced: str) -> dict[str, Any]:
        mixing = pca.mixing(pca.count if k == "all" else k)
        measured = measure_mixing(model, injection, mixing, comparison, bar.update, replaced)
        return {"components": str(k), "replaced": replaced, **measured}

    runs = [(k, replaced) for k in wanted for replaced in REPLACED]
    rows = []
    total = len(runs) * comparison.windows.tokens.numel()
    with tqdm(total=total, desc="K components", unit="tok", unit_scale=True, disable=None) as bar:
        for done, (k, replaced) in enumerate(runs, start=1):
            rows.append(journal.remember(partial(measure, k, replaced), {"components": k, "replaced": replaced}))
            bar.update(done * comparison.windows.tokens.numel() - bar.n)
    with stage.output() as folder:
        write_json(folder / "rows.json", rows)
        write_json(folder / "summary.json", ratio_tables(rows, "components"))
        counts = [pca.count if k == "all" else k for k, _ in runs]
        numbered = ({**row, "components": k} for k, row in zip(counts, rows, strict=True))
        write_rows(folder / "plots" / "perplexity.json", numbered)


if __name__ == "__main__":
    run(main)

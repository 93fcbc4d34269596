"""Where the function lives: the perplexity with one layer rebuilt, and with one band of components dropped."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.models.load import load_folded
from permeation.perplexity.fast import prepare_for_scoring, untouched_before
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Text
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection
from permeation.weights.pca import KernelPca
from permeation.weights.replace import ALL, ALL_BUT_FIRST, REPLACED, measure_mixing
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/locate/: plots/layers.json, one row per layer, and plots/bands.json; summary.json."""
    settings, folder, config = stage.config.locate, stage.input("model"), stage.config
    pca = KernelPca.from_tensors(load_file(stage.input("pca") / "gram.safetensors"), config.pca.center)
    model = load_folded(folder, config.wqk.fold_norm, stage.device)
    text = Text.from_tensors(load_file(stage.input("tokenize_corpus") / "text.safetensors"))
    calibration = torch.from_numpy(np.load(stage.input("moments") / "positions.npy"))
    injection = GramInjection.fit(read_heads(model))
    dtype = read_json(stage.input("baseline") / "summary.json")["dtype"]
    scored = replace(config.perplexity, max_tokens=settings.max_tokens, dtype=dtype)
    model = prepare_for_scoring(model, dtype, scored.context)
    if settings.bands > pca.count - pca.centred:
        raise PermeationError(
            f"locate.bands is {settings.bands}; accepted: 2 to {pca.count - pca.centred}, one a component"
        )
    n_layers, n_heads = injection.heads.W_Q.shape[:2]
    kept = max(1, round(settings.components * pca.count))

    windows = text.held_out(calibration, scored.context, scored.max_tokens)
    journal = stage.journal(
        *(stage.input(name) for name in ("model", "tokenize_corpus", "moments", "pca")),
        settings=(config.wqk, config.pca, scored, settings.components),
    )

    layers: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    with tqdm(desc="layers and bands", unit="tok", unit_scale=True, disable=None) as bar:
        comparison = Baseline.measure(
            model, windows, scored, stage.journal(folder, settings=(config.wqk, dtype), of="baseline"), bar.update
        )

        def measure(key: dict[str, Any], mixing: Tensor, replaced: str = ALL) -> dict[str, Any]:
            return journal.remember(
                lambda: measure_mixing(model, injection, mixing, comparison, bar.update, replaced),
                {**key, "replaced": replaced},
            )

        few = pca.mixing(kept)
        streams: dict[bytes, tuple[int, Tensor]] = {}
        for layer in range(n_layers):
            mixing = torch.eye(pca.count, dtype=torch.float64)
            rebuilt = slice(layer * n_heads, (layer + 1) * n_heads)
            mixing[rebuilt] = few[rebuilt]
            with untouched_before(model, layer, streams):
                layers.append({"layer": layer, **measure({"layer": layer}, mixing)})
        for band in pca.bands(settings.bands):
            variance = float(pca.explained_variance_ratio[band.start : band.stop].sum())
            for replaced in REPLACED:
                measured = measure({"band": [band.start, band.stop]}, pca.mixing_without(band), replaced)
                row = {"first": band.start + 1, "last": band.stop, "variance": variance, "replaced": replaced}
                dropped.append(row | measured)
    with stage.output() as out:
        write_rows(out / "plots" / "layers.json", layers)
        write_rows(out / "plots" / "bands.json", dropped)
        summary = {
            "tokens": comparison.tokens,
            "components": kept,
            "layer_ratio": {str(row["layer"]): row["ratio"] for row in layers},
            "band_ratio": band_ratios(dropped, ALL),
            "first_layer_kept": {"band_ratio": band_ratios(dropped, ALL_BUT_FIRST)},
        }
        write_json(out / "summary.json", summary)


def band_ratios(dropped: list[dict[str, Any]], replaced: str) -> dict[str, float]:
    """The ratio of each band by its components."""
    return {f"{row['first']}-{row['last']}": row["ratio"] for row in dropped if row["replaced"] == replaced}


if __name__ == "__main__":
    run(main)

"""Cut the text into windows and score the untouched model on them, once for all that compare with it."""

from dataclasses import replace
from functools import partial

from safetensors.torch import load_file
from tqdm import tqdm

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json
from permeation.models.load import load_folded
from permeation.perplexity.fast import prepare_for_scoring, resolve_dtype
from permeation.perplexity.nll import perplexity
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Text
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/baseline/: windows.safetensors (permeation.perplexity.ratio.Baseline); summary.json."""
    config, settings, folder = stage.config, stage.config.perplexity, stage.input("model")
    if settings.context > (longest := read_json(folder / "model.json")["n_ctx"]):
        raise PermeationError(f"perplexity.context is {settings.context}; this model accepts at most {longest}")
    text = Text.from_tensors(load_file(stage.input("tokenize_corpus") / "text.safetensors"))
    windows = text.spread(settings.context, settings.max_tokens)
    load = partial(load_folded, folder, config.wqk.fold_norm, stage.device)
    dtype = resolve_dtype(settings.dtype, load, windows.tokens[:1])
    model = prepare_for_scoring(load(), dtype, settings.context)
    with tqdm(
        total=windows.tokens.numel(), desc=f"untouched model in {dtype}", unit="tok", unit_scale=True, disable=None
    ) as bar:
        comparison = Baseline.measure(
            model,
            windows,
            replace(settings, dtype=dtype),
            stage.journal(folder, settings=(config.wqk, dtype), of="baseline"),
            bar.update,
        )
    with stage.output() as out:
        comparison.write(out)
        summary = {
            "perplexity": perplexity(float(comparison.baseline.sum()), comparison.tokens),
            "tokens": comparison.tokens,
            "windows": comparison.baseline.size,
            "dtype": dtype,
        }
        write_json(out / "summary.json", summary)


if __name__ == "__main__":
    run(main)

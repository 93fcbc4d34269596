"""Cut the text into windows and score the untouched model on them, once for all that compare with it."""

from dataclasses import replace
from functools import partial

from safetensors.torch import load_file
from tqdm import tqdm

from permeation import model as models
from permeation.comparison import Comparison
from permeation.errors import PermeationError
from permeation.files import read_json, write_json
from permeation.perplexity import perplexity
from permeation.scoring import ready, resolve_dtype
from permeation.stage import Stage, run
from permeation.text import Text


def main(stage: Stage) -> None:
    """Write data/baseline/: windows.safetensors (permeation.comparison.Comparison); summary.json."""
    config, settings, folder = stage.config, stage.config.perplexity, stage.input("model")
    if settings.context > (longest := read_json(folder / "model.json")["n_ctx"]):
        raise PermeationError(f"perplexity.context is {settings.context}; this model accepts at most {longest}")
    text = Text.from_tensors(load_file(stage.input("tokenize_corpus") / "text.safetensors"))
    windows = text.spread(settings.context, settings.max_tokens)
    load = partial(models.load_for_injection, folder, config.wqk.fold_norm, stage.device)
    dtype = resolve_dtype(settings.dtype, load, windows.tokens[:1])
    model = ready(load(), dtype, settings.context)
    with tqdm(
        total=windows.tokens.numel(), desc=f"untouched model in {dtype}", unit="tok", unit_scale=True, disable=None
    ) as bar:
        comparison = Comparison.measure(
            model, windows, replace(settings, dtype=dtype), stage.untouched(dtype), bar.update
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

"""Cut the text into windows and score the untouched model on them, once for all that compare with it."""

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json
from permeation.models.load import load_folded
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.ratio import Baseline, untouched_nll
from permeation.perplexity.windows import Text
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/baseline/: windows.safetensors (permeation.perplexity.ratio.Baseline); summary.json."""
    config, settings, folder = stage.config, stage.config.perplexity, stage.input("model")
    if settings.context > (longest := read_json(folder / "model.json")["n_ctx"]):
        raise PermeationError(f"perplexity.context is {settings.context}; this model accepts at most {longest}")
    text = Text.read(stage.input("tokenize_corpus"))
    windows = text.held_out(settings.context, settings.max_tokens, config.moments.context, config.moments.tokens)
    model = prepare_for_scoring(
        load_folded(folder, config.wqk.fold_norm, stage.device), settings.dtype, settings.context
    )
    journal = stage.journal(folder, settings=(config.wqk, settings.dtype))
    with progress.bar(windows.tokens.numel(), "untouched model", "tok") as bar:
        baseline = Baseline(windows, untouched_nll(model, windows, settings, journal, bar.update))
    found = baseline.perplexity
    scored = "".join(load_tokenizer(folder).batch_decode(windows.tokens[:, 1:]))
    with stage.output() as out:
        baseline.write(out)
        summary = {
            "perplexity": found.value,
            "low": found.low,
            "high": found.high,
            "tokens": found.tokens,
            "windows": found.windows,
            "nats_per_byte": float(baseline.nll.sum()) / len(scored.encode()),
            "dtype": settings.dtype,
            "bos": text.bos is not None,
        }
        write_json(out / "summary.json", summary)


if __name__ == "__main__":
    run(main)

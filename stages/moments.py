"""Second moments of what the attention layers read, from calibration text on which nothing is measured."""

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json
from permeation.models.load import load_folded
from permeation.perplexity.nll import windows_per_batch
from permeation.perplexity.windows import Text
from permeation.weights.moments import collect
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/moments/: moments.safetensors; summary.json."""
    settings, folder = stage.config.moments, stage.input("model")
    if settings.context > (longest := read_json(folder / "model.json")["n_ctx"]):
        raise PermeationError(f"moments.context is {settings.context}; this model accepts at most {longest}")
    model = load_folded(folder, stage.config.wqk.fold_norm, stage.device)
    tokens = Text.read(stage.input("tokenize_corpus")).calibration(settings.context, settings.tokens).tokens
    with progress.bar(tokens.numel(), "moments", "tok") as bar:
        batch_size = windows_per_batch(stage.config.perplexity.batch_size, settings.context, model)
        moments = collect(model, tokens, batch_size, bar.update)
    with stage.output() as out:
        moments.write(out)
        summary = {"tokens": tokens.numel(), "shrinkage_max": float(moments.shrinkage.max())}
        write_json(out / "summary.json", summary)


if __name__ == "__main__":
    run(main)

"""Second moments of what the attention layers read, from calibration text that `rivals` and `locate` keep clear of."""

import numpy as np
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json
from permeation.models.families import geometry_of
from permeation.models.load import load_folded
from permeation.perplexity.nll import windows_per_batch
from permeation.perplexity.windows import Text, calibration_positions
from permeation.weights.moments import collect
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/moments/: moments.safetensors; positions.npy (windows, context), where in the text they are from."""
    settings, folder = stage.config.moments, stage.input("model")
    model = load_folded(folder, stage.config.wqk.fold_norm, stage.device)
    if settings.context > (longest := geometry_of(model).n_ctx):
        raise PermeationError(f"moments.context is {settings.context}; this model accepts at most {longest}")
    text = Text.from_tensors(load_file(stage.input("tokenize_corpus") / "text.safetensors"))
    positions = calibration_positions(len(text.tokens), settings.context, settings.tokens)
    with tqdm(total=positions.numel(), desc="moments", unit="tok", unit_scale=True, disable=None) as bar:
        batch_size = windows_per_batch(stage.config.perplexity.batch_size, settings.context, model)
        moments = collect(model, text.tokens[positions], batch_size, bar.update)
    with stage.output() as out:
        save_file(moments.tensors(), out / "moments.safetensors")
        np.save(out / "positions.npy", positions.numpy())
        write_json(
            out / "summary.json",
            {"tokens": positions.numel(), "shrinkage_max": float(moments.shrinkage.max())},
        )


if __name__ == "__main__":
    run(main)

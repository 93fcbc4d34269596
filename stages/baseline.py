"""Cut the text into windows and score the untouched model on them, once for all that compare with it."""

import numpy as np
from tqdm import tqdm

from permeation import model as models
from permeation import perplexity
from permeation.errors import PermeationError
from permeation.files import write_json
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/baseline/: windows.npy (windows, context) and nll.npy (windows), Σ NLL in nats."""
    settings, folder = stage.config.perplexity, stage.input("model")
    model = models.load(folder, stage.device)
    if settings.context > (longest := models.geometry(model).n_ctx):
        raise PermeationError(f"perplexity.context is {settings.context}; this model accepts at most {longest}")
    text = (stage.input("corpus") / "corpus.txt").read_text(encoding="utf-8")
    tokens = perplexity.tokenize(models.load_tokenizer(folder), text)
    windows = perplexity.cut_windows(tokens, settings.context, settings.max_tokens)
    if len(windows) < 2:
        raise PermeationError(
            f"the text and perplexity.max_tokens ({settings.max_tokens}) give {len(windows)} window of "
            f"{settings.context} tokens; an interval needs at least 2"
        )
    nll = []
    with tqdm(total=windows.numel(), desc="untouched model", unit="tok", unit_scale=True, disable=None) as bar:
        for batch in perplexity.window_nll(model, windows, settings.batch_size):
            nll.append(batch)
            bar.update(len(batch) * settings.context)
    scored = windows.numel() - len(windows)
    with stage.output() as out:
        np.save(out / "windows.npy", windows.numpy())
        np.save(out / "nll.npy", np.concatenate(nll))
        summary = {
            "perplexity": perplexity.perplexity(np.concatenate(nll), scored),
            "tokens": scored,
            "windows": len(windows),
        }
        write_json(out / "summary.json", summary)


if __name__ == "__main__":
    run(main)

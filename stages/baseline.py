"""Cut the text into windows and score the untouched model on them, once for all that compare with it."""

from functools import partial

import numpy as np
from tqdm import tqdm

from permeation import model as models
from permeation import perplexity
from permeation.errors import PermeationError
from permeation.files import read_json, write_json
from permeation.scoring import ready, resolve_dtype
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/baseline/: windows.npy (windows, context) and nll.npy (windows), Σ NLL in nats."""
    settings, folder = stage.config.perplexity, stage.input("model")
    if settings.context > (longest := read_json(folder / "model.json")["n_ctx"]):
        raise PermeationError(f"perplexity.context is {settings.context}; this model accepts at most {longest}")
    text = (stage.input("corpus") / "corpus.txt").read_text(encoding="utf-8")
    tokens = perplexity.tokenize(models.load_tokenizer(folder), text)
    windows = perplexity.cut_windows(tokens, settings.context, settings.max_tokens)
    if len(windows) < 2:
        raise PermeationError(
            f"the text and perplexity.max_tokens ({settings.max_tokens}) give {len(windows)} window of "
            f"{settings.context} tokens; an interval needs at least 2"
        )
    load = partial(models.load_for_injection, folder, stage.config.wqk.fold_norm, stage.device)
    dtype = resolve_dtype(settings.dtype, load, windows[:1])
    model = ready(load(), dtype, settings.context)
    nll = []
    with tqdm(
        total=windows.numel(), desc=f"untouched model in {dtype}", unit="tok", unit_scale=True, disable=None
    ) as bar:
        for batch in perplexity.window_nll(model, windows, settings.batch_size):
            nll.append(batch)
            bar.update(len(batch) * settings.context)
    scored = windows.numel() - len(windows)
    with stage.output() as out:
        np.save(out / "windows.npy", windows.numpy())
        np.save(out / "nll.npy", np.concatenate(nll))
        summary = {
            "perplexity": perplexity.perplexity(float(np.concatenate(nll).sum()), scored),
            "tokens": scored,
            "windows": len(windows),
            "dtype": dtype,
        }
        write_json(out / "summary.json", summary)


if __name__ == "__main__":
    run(main)

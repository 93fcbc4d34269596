"""Cut the text into windows, score the untouched model on them, and take moments of what its attention reads."""

import hashlib
from dataclasses import asdict
from typing import Any

import torch

from permeation.frame.errors import PermeationError
from permeation.frame.progress import each
from permeation.frame.tables import read_json, write_json
from permeation.models.load import load_folded
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import check_tokens, load_tokenizer
from permeation.perplexity.nll import windows_per_batch
from permeation.perplexity.ratio import Baseline, untouched_nll
from permeation.perplexity.windows import Text, bos_of
from permeation.stage import Stage
from permeation.weights.moments import collect


def main(stage: Stage) -> None:
    """Write data/baseline/: windows.safetensors, corpus.json, summary.json; data/moments/: moments.safetensors."""
    config, folder = stage.config, stage.input("model")
    asked, calibration, sizes = config.perplexity, config.moments, read_json(folder / "model.json")
    for name, context in (("perplexity", asked.context), ("moments", calibration.context)):
        if context > sizes["n_ctx"]:
            raise PermeationError(f"{name}.context is {context}; this model accepts at most {sizes['n_ctx']}")
    corpus, tokenizer = fetch_corpus(stage.place(config.corpus)), load_tokenizer(folder)
    text = Text.tokenize(tokenizer, corpus.text, corpus.articles, bos_of(tokenizer, asked.prepend_bos))
    check_tokens(text.tokens, sizes["d_vocab"])
    learned, measured = text.split(calibration.context, calibration.tokens, asked.context, asked.max_tokens)

    model = load_folded(folder, True, stage.device)
    batches = learned.tokens.split(windows_per_batch(asked.batch_size, calibration.context, model))
    moments = collect(model, each(batches, "moments", len(batches)))
    written = collect(model, batches, outputs=True) if config.rivals.whole else None
    model = model.to(getattr(torch, asked.dtype))
    batches = measured.tokens.split(windows_per_batch(asked.batch_size, asked.context, model))
    journal = stage.journal(folder, settings=asked.dtype)
    nll = untouched_nll(model, each(batches, "untouched model", len(batches)), journal)
    baseline = Baseline(measured, nll)

    scored = "".join(tokenizer.batch_decode(measured.tokens[:, 1:]))
    found = asdict(baseline.perplexity) | {"nats_per_byte": float(nll.sum()) / len(scored.encode())}
    summary = {"perplexity": found.pop("value"), **found, "dtype": asked.dtype, "bos": text.bos is not None}
    facts: dict[str, Any] = {"sha256": hashlib.sha256(corpus.text.encode()).hexdigest()}
    facts |= {"characters": len(corpus.text), "articles": len(corpus.articles)}
    with stage.output("moments") as out:
        moments.write(out)
        if written is not None:
            written.write(out, "written")
    with stage.output() as out:
        baseline.write(out)
        write_json(out / "corpus.json", asdict(corpus.origin) | facts)
        write_json(out / "summary.json", {"perplexity": {"baseline": summary}})

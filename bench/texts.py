"""How much a method that was fitted to one text loses on another: moments from one, measured on all.

`python -m bench.texts METHOD … [--bits B] [--texts …]` prints the table in the project's folder, after `fetch_model`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from permeation import settings
from permeation.frame import progress
from permeation.frame.engine import Local
from permeation.frame.journal import Journal, fingerprint
from permeation.models.load import load_folded
from permeation.models.texts import WHEEL_CORPORA, fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.nll import window_nll, windows_per_batch
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Text, Windows, bos_of
from permeation.rivals.base import Problem, original_parameters, sizes_near
from permeation.rivals.registry import METHODS
from permeation.stage import Stage
from permeation.takeaway import check
from permeation.weights.heads import read_heads
from permeation.weights.moments import collect
from permeation.weights.replace import Change, Job, Scorer, measure


def across_texts(
    methods: Sequence[str], bits: float = 4.0, texts: Sequence[str] = tuple(WHEEL_CORPORA), project: Path = Path()
) -> Iterator[dict[str, Any]]:
    """Rows by method, text that its moments come from (`learned`), and text it is measured on (`measured`)."""
    for method in methods:
        check(method, bits, METHODS)
    stage = Stage("texts", settings.load(project / "params.yaml"), project, project)
    asked, folder = stage.config.perplexity, stage.input("model")
    base = fingerprint(Path(settings.__file__).parent.rglob("*.py"), [folder], stage.config)
    kept = Journal(project / "data" / ".journal" / "texts.jsonl", base)
    model = load_folded(folder, True, stage.device)
    tokenizer, learn = load_tokenizer(folder), stage.config.moments

    def windows_of(corpus: str) -> tuple[Windows, Windows]:  # as the stage `baseline` has them
        found = fetch_corpus(corpus)
        text = Text.tokenize(tokenizer, found.text, found.articles, bos_of(tokenizer, asked.prepend_bos))
        return text.split(learn.context, learn.tokens, asked.context, asked.max_tokens)

    heads, parts = read_heads(model), {text: windows_of(text) for text in texts}
    batch = windows_per_batch(asked.batch_size, learn.context, model)
    moments = {text: collect(model, learned.tokens.split(batch)) for text, (learned, _) in parts.items()}
    model = model.to(getattr(torch, asked.dtype))

    def scorer(text: str) -> Scorer:
        windows = parts[text][1]
        scored = kept.remember(lambda: list(chain(*window_nll(model, windows.tokens, asked.batch_size))), {"of": text})
        return Scorer(lambda: model, Baseline(windows, np.array(scored)), asked.tolerance, asked.batch_size)

    scorers = {text: scorer(text) for text in texts}
    for method, learned in progress.each(pairs := [(m, t) for m in methods for t in texts], "texts", len(pairs)):
        rival = METHODS[method].fit(Problem(heads, moments[learned], stage.config.seed))
        (size,) = sizes_near(rival, [bits * original_parameters(heads)])
        change = partial(Change, rival.apply(size).to(torch.float32).tensors())
        columns = {"size": size, "bits": rival.stored_bits(size) / original_parameters(heads)}
        for measured, own in scorers.items():
            key = {"method": method, "learned": learned, "measured": measured, "asked": bits}
            yield from (found.row for found in measure([Job(key, change, columns)], own, kept, Local()))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown: a line for each method and text that it learned from, a column for each text measured."""
    measured = list(dict.fromkeys(row["measured"] for row in rows))
    lines = [["method", "bits", "moments from", *measured], ["---"] * (3 + len(measured))]
    for i in range(0, len(rows), len(measured)):
        cells = [f"{row['ratio']:.4f} ({row['low']:.4f} to {row['high']:.4f})" for row in rows[i : i + len(measured)]]
        lines.append([rows[i]["method"], f"{rows[i]['bits']:.2f}", rows[i]["learned"], *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.texts", description=__doc__)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--bits", type=float, default=4.0)
    parser.add_argument("--texts", nargs="+", default=tuple(WHEEL_CORPORA))
    asked = parser.parse_args()
    sys.stdout.write(table(list(across_texts(asked.methods, asked.bits, asked.texts))))

"""Perplexity of any checkpoint on any text. The last line of the output is one JSON object.

It holds `perplexity`, `nll` (Σ, nats), `tokens` (scored), `windows`, `bos` (the token in front of every window, if the
model's tokenizer adds one), `dtype`, and, for the scoring alone after one window of warming up, `seconds` and
`tokens_per_second` (of all tokens that went through the model).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from permeation.frame import progress
from permeation.frame.device import DEVICES, find_device
from permeation.frame.errors import PermeationError
from permeation.models.families import longest_context
from permeation.models.guard import read_config
from permeation.models.load import load_model
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import check_tokens, load_tokenizer
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.nll import perplexity, window_nll
from permeation.perplexity.settings import DTYPES
from permeation.perplexity.windows import Text, bos_of


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m permeation.perplexity", description=__doc__)
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="a transformers checkpoint")
    parser.add_argument("--text", metavar="FILE", type=Path, required=True, help="UTF-8 text")
    parser.add_argument("--max-tokens", metavar="N", type=int, help="windows spread over the text (default: all of it)")
    parser.add_argument("--context", metavar="C", type=int, default=512, help="tokens of a window (default: 512)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    return parser.parse_args()


def score(arguments: argparse.Namespace) -> dict[str, object]:
    """What the command prints."""
    device, folder, context = find_device(arguments.device), arguments.model, arguments.context
    config = read_config(folder)
    if not 2 <= context <= (longest := longest_context(config)):
        raise PermeationError(f"--context is {context}; this model accepts 2 to {longest}")
    tokenizer = load_tokenizer(folder)
    text = Text.tokenize(tokenizer, fetch_corpus(str(arguments.text)).text, bos=bos_of(tokenizer, "auto"))
    windows = text.spread(context, arguments.max_tokens).tokens
    check_tokens(windows.flatten(), config.vocab_size)
    dtype = arguments.dtype
    model = prepare_for_scoring(load_model(folder, device), dtype, context)
    next(window_nll(model, windows[:1]))
    start, nll = time.perf_counter(), 0.0
    with progress.bar(windows.numel(), f"scoring in {dtype}", "tok") as bar:
        for batch in window_nll(model, windows):
            nll += float(batch.sum())
            bar.update(len(batch) * context)
    seconds = time.perf_counter() - start
    tokens = windows.numel() - len(windows)
    return {
        "perplexity": perplexity(nll, tokens),
        "nll": nll,
        "tokens": tokens,
        "windows": len(windows),
        "bos": text.bos,
        "dtype": dtype,
        "seconds": seconds,
        "tokens_per_second": windows.numel() / seconds,
    }


def main() -> None:
    """Entry point; exits 1 with one line where something is wrong with the input."""
    try:
        sys.stdout.write(json.dumps(score(parse())) + "\n")
    except PermeationError as error:
        sys.exit(f"perplexity: {error}")


if __name__ == "__main__":
    main()

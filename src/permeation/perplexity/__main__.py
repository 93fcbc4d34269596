"""Perplexity of any checkpoint on any text. The last line of the output is one JSON object.

`nll` is the sum in nats over the scored `tokens`, `bos` the token in front of every window if the tokenizer adds one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from permeation.frame.device import DEVICES, find_device
from permeation.frame.errors import PermeationError
from permeation.frame.progress import each
from permeation.models.families import longest_context
from permeation.models.load import load_model
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import check_tokens, load_tokenizer
from permeation.perplexity.nll import window_nll
from permeation.perplexity.windows import Text, bos_of


def score(folder: Path, text: Path, context: int, max_tokens: int | None, dtype: str, device: str) -> dict[str, Any]:
    """What the command prints."""
    model = load_model(folder, find_device(device)).to(getattr(torch, dtype))
    longest = longest_context(model.config)
    if not 2 <= context <= longest:
        raise PermeationError(f"--context is {context}; this model accepts 2 to {longest}")
    tokenizer = load_tokenizer(folder)
    read = Text.tokenize(tokenizer, fetch_corpus(str(text)).text, bos=bos_of(tokenizer, "auto"))
    windows = read.spread(context, max_tokens)
    check_tokens(windows.tokens.flatten(), model.config.vocab_size)
    nll = sum(float(one.sum()) for one in each(window_nll(model, windows.tokens, 1), "windows", len(windows.tokens)))
    tokens = len(windows.tokens) * windows.scored
    found = {"perplexity": math.exp(nll / tokens), "nll": nll, "tokens": tokens, "windows": len(windows.tokens)}
    return found | {"bos": read.bos, "dtype": dtype}


def main() -> None:
    """Entry point; exits 1 with one line where something is wrong with the input."""
    parser = argparse.ArgumentParser(prog="python -m permeation.perplexity", description=__doc__)
    parser.add_argument("--model", dest="folder", metavar="DIR", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--text", metavar="FILE", type=Path, required=True, help="UTF-8 text")
    parser.add_argument("--max-tokens", metavar="N", type=int, help="windows spread over the text (default: all of it)")
    parser.add_argument("--context", metavar="C", type=int, default=512, help="tokens of a window (default: 512)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    try:
        sys.stdout.write(json.dumps(score(**vars(parser.parse_args()))) + "\n")
    except PermeationError as error:
        sys.exit(f"perplexity: {error}")


if __name__ == "__main__":
    main()

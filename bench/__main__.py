"""Time the scorer against a TransformerBridge and plain transformers, and against the machine's matmul ceiling.

    python -m bench [--repeats N] [--tokens N]

The model and the text are those that `make repro` fetched; a second model, of GPT-2's size with random weights, reads
random tokens. The candidates take turns, so that a slow moment of the machine falls
on all of them. Writes bench/results.json and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

from permeation import model as models
from permeation.files import read_json
from permeation.perplexity import window_nll
from permeation.scoring import has_fast_bfloat16, ready
from permeation.text import Text, window_starts

CONTEXT, BATCH = 512, 2
Scorer = Callable[[torch.Tensor], float]


def bridge(model: Any, tokenizer: Any) -> Scorer:
    """The loss loop of TransformerLens, float32."""
    wrapped = TransformerBridge.boot_transformers("bench", hf_model=model, tokenizer=tokenizer, device="cpu")

    def score(windows: torch.Tensor) -> float:
        with torch.inference_mode():
            return sum(float(wrapped(batch, return_type="loss")) for batch in windows.split(1)) / len(windows)

    return score


def plain(model: Any) -> Scorer:
    """transformers with labels=, float32."""

    def score(windows: torch.Tensor) -> float:
        with torch.inference_mode():
            return sum(float(model(batch, labels=batch).loss) for batch in windows.split(1)) / len(windows)

    return score


def ours(model: Any, dtype: str) -> Scorer:
    """permeation.perplexity."""
    model = ready(model, dtype, CONTEXT)

    def score(windows: torch.Tensor) -> float:
        return sum(float(nll.sum()) for nll in window_nll(model, windows)) / len(windows) / (CONTEXT - 1)

    return score


def flops_per_token(model: Any) -> float:
    """2 per weight that multiplies (all but embeddings looked up), and the causal half of the attention products."""
    geometry = models.geometry(model)
    looked_up = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    head = geometry.d_model * geometry.d_vocab
    attention = 2 * geometry.n_layers * CONTEXT * geometry.n_heads * geometry.d_head
    return 2 * (model.num_parameters() - looked_up + head) + attention


def ceiling(dtype: torch.dtype) -> float:
    """FLOP/s of a square matmul that fits no cache."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    start = time.perf_counter()
    for _ in range(4):
        a @ b
    return 4 * 2 * 2048**3 / (time.perf_counter() - start)


def run(load: Callable[[], Any], tokenizer: Any, windows: torch.Tensor, repeats: int) -> dict[str, Any]:
    """Tokens per second of every candidate, with its loss."""
    candidates: dict[str, Scorer] = {
        "TransformerBridge, float32": bridge(load(), tokenizer),
        "transformers labels=, float32": plain(load()),
        "ours, float32": ours(load(), "float32"),
        "ours, bfloat16": ours(load(), "bfloat16"),
    }
    loss = {name: score(windows[:BATCH]) and score(windows) for name, score in candidates.items()}
    speed: dict[str, list[float]] = {name: [] for name in candidates}
    peak: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(repeats):
        for dtype, found in peak.items():
            found.append(ceiling(getattr(torch, dtype)))
        for name, score in candidates.items():
            start = time.perf_counter()
            score(windows)
            speed[name].append(windows.numel() / (time.perf_counter() - start))
    flops = flops_per_token(load())
    reference = statistics.median(speed["TransformerBridge, float32"])
    return {
        "flops_per_token": flops,
        "matmul_flops_per_second": {dtype: statistics.median(found) for dtype, found in peak.items()},
        "candidates": {
            name: {
                "tokens_per_second": statistics.median(found),
                "ratio": statistics.median(found) / reference,
                "ratio_low": min(found) / reference,
                "ratio_high": max(found) / reference,
                "share_of_ceiling": statistics.median(found) * flops / statistics.median(peak[name.split(", ")[1]]),
                "nll_per_token": loss[name],
            }
            for name, found in speed.items()
        },
    }


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        "| model | scorer | × bridge | range | share of matmul ceiling | NLL − float32 |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        exact = found["candidates"]["ours, float32"]["nll_per_token"]
        lines += [
            f"| {name} | {scorer} | {row['ratio']:.2f} | {row['ratio_low']:.2f} – {row['ratio_high']:.2f} | "
            f"{100 * row['share_of_ceiling']:.0f} % | {row['nll_per_token'] - exact:+.1e} |"
            for scorer, row in found["candidates"].items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Run everything, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048)
    arguments = parser.parse_args()
    folder, text = Path("data") / "model", Path("data") / "corpus" / "corpus.txt"
    if not folder.is_dir() or not text.is_file():
        sys.exit(f"bench: {folder} or {text} is missing; run `make repro` first")
    tokenizer = models.load_tokenizer(folder)
    tokens = Text.tokenize(tokenizer, text.read_text(encoding="utf-8"))
    real = tokens.windows(window_starts(len(tokens.tokens), CONTEXT, arguments.tokens), CONTEXT).tokens
    random = torch.randint(50257, real.shape, generator=torch.Generator().manual_seed(0))

    def gpt2() -> Any:
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval().requires_grad_(False)

    results = {
        read_json(folder / "model.json")["name"]: run(lambda: models.load(folder), tokenizer, real, arguments.repeats),
        "GPT-2's size, random weights": run(gpt2, tokenizer, random, arguments.repeats),
    }
    machine = {"threads": torch.get_num_threads(), "fast_bfloat16": has_fast_bfloat16(torch.device("cpu"))}
    path = Path("bench") / "results.json"
    path.write_text(json.dumps({"machine": machine, "models": results}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()

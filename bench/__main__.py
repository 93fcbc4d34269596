"""Time the scorer against plain transformers (`python -m bench`); writes bench/results.json, prints a table.

It reads data/baseline and data/model, which `make repro` made. The candidates take turns, so that a slow moment of the
machine falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path("bench") / "results.json"
WINDOWS = 8
REFERENCE = "transformers, labels="


def scorer(rounds: int) -> dict[str, Any]:
    """Seconds of each candidate over those of transformers with labels=, and how far its NLL is from float32's."""
    import torch
    from safetensors.torch import load_file

    from permeation.models.load import load_model
    from permeation.perplexity.nll import window_nll

    folder = Path("data") / "model"
    windows = load_file(Path("data") / "baseline" / "windows.safetensors")["tokens"][:WINDOWS]
    scored = windows[:, 1:].numel()

    def plain() -> Callable[[], float]:
        model = load_model(folder)
        return lambda: sum(float(model(each, labels=each).loss) for each in windows.split(1)) / len(windows)

    def ours(dtype: str) -> Callable[[], float]:
        model = load_model(folder).to(getattr(torch, dtype))
        return lambda: sum(float(nll.sum()) for nll in window_nll(model, windows)) / scored

    candidates = {REFERENCE: plain()} | {f"ours, {dtype}": ours(dtype) for dtype in ("float32", "bfloat16")}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    nll = {}
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for name, score in candidates.items():
                start = time.perf_counter()
                nll[name] = score()
                if turn:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    typical = {name: median(each) for name, each in seconds.items()}
    return {
        "processor": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        "tokens": windows.numel(),
        "candidates": {
            name: {
                "tokens_per_second": round(windows.numel() / typical[name]),
                "speed": round(typical[REFERENCE] / typical[name], 2),
                "nll_difference": float(f"{nll[name] - nll[REFERENCE]:.1e}"),
            }
            for name in candidates
        },
    }


def table(scored: dict[str, Any]) -> str:
    """The results in Markdown."""
    about = f"{scored['processor']}, {scored['tokens']:,} tokens"
    lines = [about, "", "| scorer | × transformers | NLL − transformers |", "|---|---|---|"]
    for name, row in scored["candidates"].items():
        lines.append(f"| {name} | {row['speed']:.2f} | {row['nll_difference']:+.1e} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each scorer (default: 3)")
    found = scorer(parser.parse_args().rounds)
    RESULTS.write_text(json.dumps({"scorer": found}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(found))

"""Time the scorer against plain transformers; writes bench/results.json, prints a table.

    python -m bench [--rounds N]

It reads the windows of data/baseline with the model of data/model, which `make repro` made. The candidates take turns,
so that a slow moment of the machine falls on all of them; ratios hold where seconds do not.
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

RESULTS = Path("bench") / "results.json"
WINDOWS = 8


def scorer(rounds: int) -> dict[str, Any]:
    """Seconds of each candidate over those of transformers with labels=, and how far its NLL is from float32's."""
    import torch
    from safetensors.torch import load_file

    from permeation.models.load import load_model
    from permeation.perplexity.fast import prepare_for_scoring
    from permeation.perplexity.nll import window_nll

    folder = Path("data") / "model"
    windows = load_file(Path("data") / "baseline" / "windows.safetensors")["tokens"][:WINDOWS]
    scored = windows[:, 1:].numel()

    def plain() -> Callable[[], float]:
        model = load_model(folder)
        return lambda: sum(float(model(each, labels=each).loss) for each in windows.split(1)) / len(windows)

    def ours(dtype: str) -> Callable[[], float]:
        model = prepare_for_scoring(load_model(folder), dtype, windows.shape[1])
        return lambda: sum(float(nll.sum()) for nll in window_nll(model, windows)) / scored

    candidates = {"transformers, labels=": plain()} | {
        f"ours, {dtype}": ours(dtype) for dtype in ("float32", "bfloat16")
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    nll = {}
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for name, score in candidates.items():
                start = time.perf_counter()
                nll[name] = score()
                if turn:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    reference = "transformers, labels="
    return {
        "processor": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        "tokens": windows.numel(),
        "candidates": {
            name: {
                "tokens_per_second": round(windows.numel() / median[name]),
                "speed": round(median[reference] / median[name], 2),
                "nll_difference": float(f"{nll[name] - nll[reference]:.1e}"),
            }
            for name in candidates
        },
    }


def table(scored: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [f"{scored['processor']}, {scored['tokens']:,} tokens", ""]
    lines += ["| scorer | × transformers | NLL − transformers |", "|---|---|---|"]
    rows = scored["candidates"].items()
    lines += [f"| {name} | {row['speed']:.2f} | {row['nll_difference']:+.1e} |" for name, row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each scorer (default: 3)")
    found = scorer(parser.parse_args().rounds)
    RESULTS.write_text(json.dumps({"scorer": found}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(found))

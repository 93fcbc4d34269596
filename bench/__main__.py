"""Time the scorer against plain transformers, and what every stage takes; writes bench/results.json, prints tables.

    python -m bench [scorer | stages] [--rounds N]

The scorer reads the windows of data/baseline with the model of data/model, which `make repro` made. The candidates take
turns, so that a slow moment of the machine falls on all of them; ratios hold where seconds do not. The stages of
dvc.yaml run one after the other, each in a process of its own, in a scratch folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

RESULTS = Path("bench") / "results.json"
WINDOWS = 8
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


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


def stages() -> dict[str, Any]:
    """Seconds and peak memory of every stage of dvc.yaml, one after the other."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, stage in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
            _, script, *arguments = stage["cmd"].split()
            seconds, peak = _measured(sys.executable, "-m", "stages", script, *arguments, "--output-dir", scratch)
            found[name] = {"seconds": round(seconds, 1), "peak_mb": round(peak / 1e6)}
            sys.stderr.write(f"{name}: {seconds:.1f} s, {peak / 1e6:,.0f} MB\n")
    return found


def _measured(*command: str) -> tuple[float, int]:
    """Run a command: its seconds, and its peak of resident bytes, mapped files included. Exits if it fails."""
    environment = os.environ | {"PYTHONPATH": "src:.", "TQDM_DISABLE": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: {' '.join(command)} ended with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * MAXRSS_BYTES


def tables(found: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = []
    if (scored := found.get("scorer")) is not None:
        lines += [f"{scored['processor']}, {scored['tokens']:,} tokens", ""]
        lines += ["| scorer | × transformers | NLL − transformers |", "|---|---|---|"]
        rows = scored["candidates"].items()
        lines += [f"| {name} | {row['speed']:.2f} | {row['nll_difference']:+.1e} |" for name, row in rows]
    if (timed := found.get("stages")) is not None:
        total = sum(row["seconds"] for row in timed.values())
        lines += ["", "| stage | seconds | share | peak MB |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {row['seconds']:.1f} | {row['seconds'] / total:.0%} | {row['peak_mb']:,} |"
            for name, row in timed.items()
        ]
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("scorer", "stages"), help="only this; default: both")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each scorer (default: 3)")
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    if arguments.what != "stages":
        found["scorer"] = scorer(arguments.rounds)
    if arguments.what != "scorer":
        found["stages"] = stages()
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(tables(found))


if __name__ == "__main__":
    main()

"""Measure how the engines compare: one process, one worker, two workers, with one thread each.

    python -m bench.engines              # after a run; needs Ray

Scores the same changed models of data/model by each, in turns; writes bench/engines.json. Starting Ray and loading the
model stand by themselves: a stage pays them once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

TASKS, WINDOWS, ROUNDS = 8, 4, 3
ENGINES: dict[str, tuple[Literal["local", "ray"], int]] = {
    "one process": ("local", 1),
    "one worker": ("ray", 1),
    "two workers": ("ray", 2),
}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """In Markdown: seconds until the first result, seconds for the rest, and their ratio to one process."""
    own = found["one process"]["seconds"]
    lines = ["| engine, one thread each | start, s | tasks, s | × one process |", "|---|---|---|---|"]
    for name, each in found.items():
        lines.append(f"| {name} | {each['start']:.1f} | {each['seconds']:.1f} | {each['seconds'] / own:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run everything, write, print."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from permeation.config import load
    from permeation.frame.engine import EngineSettings, engine_of
    from permeation.frame.journal import Journal
    from permeation.weights.heads import Heads
    from permeation.weights.replace import Context, Task

    torch.set_num_threads(1)
    config, data = load(Path("params.yaml")), Path("data").resolve()
    context = Context.read(
        data / "model", data / "baseline", config.wqk.fold_norm, "cpu", config.perplexity, Journal(Path(), "")
    )
    W_Q = Heads.read(data / "extract_wqk").W_Q
    tasks = [(str(i), Task({"W_Q": W_Q * (1 - i / 100)}, 0, WINDOWS)) for i in range(TASKS)]
    found: dict[str, dict[str, float]] = {}
    for name, (kind, workers) in ENGINES.items():
        begun = time.perf_counter()
        engine: Any
        with engine_of(EngineSettings(kind, workers, None), "cpu") as engine:
            if kind == "ray":
                engine.threads = 1  # one worker would take both processors
            list(engine.map(context.scorer, tasks[:workers], lambda _: None))
            start = time.perf_counter() - begun
            rounds = []
            for _ in range(ROUNDS):
                begun = time.perf_counter()
                list(engine.map(context.scorer, tasks, lambda _: None))
                rounds.append(time.perf_counter() - begun)
        found[name] = {"start": start, "seconds": min(rounds)}
    out: Any = Path("bench") / "engines.json"
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(found) + "\n")


if __name__ == "__main__":
    main()

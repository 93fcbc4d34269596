"""Measure what every stage takes: seconds, seconds before its work starts, processor time, peak memory.

    python -m bench.stages [--only STAGE] [--model NAME_OR_FOLDER] [--set KEY=VALUE ...]

Runs the stages of dvc.yaml one after the other, each in a process of its own, in a scratch folder and under a copy of
params.yaml; neither DVC nor earlier results are needed. Adds the model's entry to bench/stages.json and prints all of
them as a table in Markdown; of one stage and those that it needs the table alone. `python -m bench.llama_1b FOLDER`
writes a model of 1.07 billion parameters to try it on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import reduce
from graphlib import TopologicalSorter
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

# A process's peak counts from before it loads its program, so that no child is measured smaller than this process:
# nothing large is imported here.
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
FLOAT32_BYTES = 4


def in_order(stages: dict[str, Any], only: str | None) -> list[str]:
    """The stages of dvc.yaml, or one and those that it needs, each after those whose outputs it reads."""
    written = {name: [*stage["outs"], *stage.get("metrics", ())] for name, stage in stages.items()}
    writers = {
        path: name
        for name, outs in written.items()
        for out in outs
        for path in ([out] if isinstance(out, str) else out)
    }
    reads = {name: {writers[dep] for dep in stage["deps"] if dep in writers} for name, stage in stages.items()}
    wanted = set(reads) if only is None else {only, "fetch_model"}  # which says the model's name and size
    while more := {each for name in wanted for each in reads[name]} - wanted:
        wanted |= more
    return [name for name in TopologicalSorter(reads).static_order() if name in wanted]


def measure(folder: Path, *arguments: str) -> dict[str, float]:
    """Run Python with these arguments in `folder`: its seconds, CPU seconds and peak resident bytes. Exits if it fails.

    Resident memory includes the pages of mapped files, such as a checkpoint's, as long as they are in use.
    """
    path = os.pathsep.join(str(Path(part).resolve()) for part in ("src", "."))
    environment = os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: python {' '.join(arguments)} ended with exit code {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": usage.ru_maxrss * MAXRSS_BYTES}


def table(entries: dict[str, Any]) -> str:
    """All models' entries in Markdown. Start-up is that of the first; × model: how many float32 models fit between a
    stage's peak memory and what it takes to start.
    """
    columns = "".join(f" {name}: seconds | peak MB | × model |" for name in entries)
    lines = ["| stage | start-up |" + columns, "|---|---|" + "---|---|---|" * len(entries)]
    for stage, row in next(iter(entries.values()))["stages"].items():
        cells = [stage, f"{row['start_up']['seconds']:.1f}"]
        for entry in entries.values():
            if (measured := entry["stages"].get(stage)) is None:  # timed before there was such a stage
                cells += ["–"] * 3
                continue
            above = measured["peak_bytes"] - measured["start_up"]["peak_bytes"]
            cells += [f"{measured['seconds']:.1f}", f"{measured['peak_bytes'] / 1e6:,.0f}"]
            cells += [f"{above / (FLOAT32_BYTES * entry['parameters']):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run everything, write, print."""
    listed = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__)
    parser.add_argument(
        "--only", metavar="STAGE", choices=listed, help="this one, and those that it needs; writes nothing"
    )
    parser.add_argument("--model", help="instead of params.yaml's model")
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", default=[], help="reconstruct.components=[1,all]")
    arguments = parser.parse_args()
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    for setting in arguments.set:
        key, value = setting.split("=", 1)
        *sections, name = key.split(".")
        reduce(getitem, sections, params)[name] = yaml.safe_load(value)
    if arguments.model is not None:
        params["model"] = arguments.model
    for name in ("model", "corpus", "words"):
        if Path(params[name]).exists():  # the scratch folder is elsewhere
            params[name] = str(Path(params[name]).resolve())

    stages: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        for name in ("dvc.yaml", "stages", "src"):  # a journal is of its stage's code
            (folder / name).symlink_to(Path(name).resolve())
        (folder / "data").mkdir()
        shutil.copy(Path("data") / "published.yaml", folder / "data")
        for name in in_order(listed, arguments.only):
            start_up = measure(folder, "-m", f"stages.{name}", "--help")  # all that a stage imports, and nothing done
            stages[name] = {**measure(folder, "-m", f"stages.{name}"), "start_up": start_up}
            peak = stages[name]["peak_bytes"] / 1e6
            sys.stderr.write(f"{name}: {stages[name]['seconds']:.1f} s, {peak:,.0f} MB\n")
        model = json.loads((folder / "data" / "model" / "model.json").read_text(encoding="utf-8"))
    entry = {"parameters": model["n_parameters"], "settings": arguments.set, "stages": stages}
    path = Path("bench") / "stages.json"
    whole = arguments.only is None
    entries = json.loads(path.read_text(encoding="utf-8")) if whole and path.is_file() else {}
    entries[model["name"]] = entry
    if whole:
        path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(entries) + "\n")


if __name__ == "__main__":
    main()

"""Write what git keeps of an axis, its metrics files and plots/<axis>/, from what its stages wrote."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from permeation.frame.tables import read_json, whole_folder, write_json, write_rows
from permeation.report.axes import AXES, Axis, headlines
from permeation.report.draw import save
from permeation.report.figures import draw

PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "scipy", "scikit-learn", "matplotlib", "dvc")
# Significant digits of a published number: processors agree on four, and on three where single tokens decide.
DIGITS, FEW_DIGITS, DECIMALS = 4, 3, 6
FEW = ("bits_at_1_05", "best_bits")


def versions() -> dict[str, str]:
    """Python as 3.11, and the packages that results depend on without a build's label (+cpu, +cu128)."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python} | {name: version(name).partition("+")[0] for name in PACKAGES}


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """JSON with its floats as they are published; what is below 1e-6 is 0."""
    if isinstance(value, float):
        return round(float(f"{value:.{digits}g}"), DECIMALS) + 0.0  # + 0.0: no -0.0
    if isinstance(value, Mapping):
        return {key: rounded(each, FEW_DIGITS if key.startswith(FEW) else digits) for key, each in value.items()}
    return [rounded(each, digits) for each in value] if isinstance(value, list) else value


def merged(first: Any, second: Any) -> Any:
    """Two nested mappings in one."""
    if not isinstance(first, Mapping):
        return second
    return {**first, **{key: merged(first.get(key), value) for key, value in second.items()}}


def write_axis(
    axis: Axis, root: Path, inputs: Callable[[str], Path], parameters: Mapping[str, Any], device: str
) -> None:
    """Write root/metrics/*.json and root/plots/<axis>/; remove what was reported of other runs.

    Args:
        inputs: gives the folder that a stage wrote.
        parameters: the whole params.yaml; those that the axis depends on are recorded.
    """
    remove_outdated(root, parameters)
    files: dict[str, Any] = {name: {} for name in axis.files}
    for stage in axis.stages:
        files = merged(files, read_json(inputs(stage) / "summary.json"))
    about = {"model": read_json(inputs("model") / "model.json")}
    if "perplexity" in axis.parameters:
        about["corpus"] = read_json(inputs("baseline") / "corpus.json")
    recorded = {key: parameters[key] for key in axis.parameters}
    files = rounded(files)
    files[axis.name] = headlines(axis, files)
    files[axis.run] = about | {"parameters": recorded, "device": device, "versions": versions()}
    senses = files.get("sigma", {}).get("senses", {})
    titles = {word: f"{word} (A = {names['A']})" for word, names in senses.items()}
    tables = [table for stage in axis.stages for table in sorted((inputs(stage) / "plots").glob("*.json"))]
    with whole_folder(root / "plots" / axis.name) as folder:
        for table in tables:
            write_rows(folder / table.name, rows := rounded(read_json(table)))
            if (figure := draw(table.stem, rows, titles if table.stem == "sigma" else {})) is not None:
                save(figure, folder / f"{table.stem}.png")
    (root / "metrics").mkdir(exist_ok=True)
    for name, content in files.items():
        write_json(root / "metrics" / f"{name}.json", content)


def remove_outdated(root: Path, parameters: Mapping[str, Any]) -> None:
    """Remove what was reported of other parameters, and the claims that rest on it: the workspace is of one run."""
    for axis in AXES:
        run = root / "metrics" / f"{axis.run}.json"
        if run.is_file() and axis.differing(read_json(run)["parameters"], parameters):
            for name in (axis.run, axis.name, *axis.files, "claims"):
                run.with_name(f"{name}.json").unlink(missing_ok=True)
            for name in (axis.name, "claims"):
                shutil.rmtree(root / "plots" / name, ignore_errors=True)

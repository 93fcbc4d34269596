"""Write what git keeps, metrics/ and plots/: of an axis from what its stages wrote, of the claims from both axes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from permeation.frame.tables import read_json, read_yaml, whole_folder, write_json, write_rows
from permeation.report.axes import AXES, Axis, headlines
from permeation.report.claims import read_claims
from permeation.report.draw import save
from permeation.report.figures import draw, draw_claims
from permeation.report.results import Results, differing

PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "scipy", "scikit-learn", "matplotlib", "dvc")
# Significant digits of a published number: processors agree on four, and on three where single tokens decide.
DIGITS, FEW_DIGITS, DECIMALS = 4, 3, 6
FEW = ("bits_at_1_05", "best_bits")


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """JSON with its floats as they are published; what is below 1e-6 is 0."""
    if isinstance(value, float):
        return round(float(f"{value:.{digits}g}"), DECIMALS) + 0.0  # + 0.0: no -0.0
    if isinstance(value, Mapping):
        return {key: rounded(each, FEW_DIGITS if key.startswith(FEW) else digits) for key, each in value.items()}
    return [rounded(each, digits) for each in value] if isinstance(value, list) else value


def parameters_behind(names: Iterable[str], project: Path) -> set[str]:
    """The top-level keys of params.yaml on which these stages of the project depend, or a stage behind them."""
    files = [project / "dvc.yaml", *project.glob("*/dvc.yaml")]
    stages = {name: stage for file in files for name, stage in read_yaml(file)["stages"].items()}
    writers = {out: name for name, stage in stages.items() for out in stage["outs"] if isinstance(out, str)}
    todo, keys = [*names], {"quick"}  # a quick run says so
    while todo:
        stage = stages[todo.pop()]
        keys |= {key.partition(".")[0] for key in stage.get("params", ()) if isinstance(key, str)}  # check: the file
        todo += [writers[dep] for dep in stage["deps"] if dep in writers]
    return keys


def write_axis(
    axis: Axis, root: Path, project: Path, inputs: Callable[[str], Path], parameters: Mapping[str, Any], device: str
) -> None:
    """Write root/metrics/*.json and root/plots/<axis>/; remove what was reported of other runs.

    Args:
        project: holds dvc.yaml, which says what parameters the axis depends on; these are recorded.
        inputs: gives the folder that a stage wrote.
        parameters: the whole params.yaml.
    """
    remove_outdated(root, parameters)
    files: dict[str, Any] = {name: {} for name in axis.files}
    for stage in axis.stages:
        for name, part in rounded(read_json(inputs(stage) / "summary.json")).items():
            files[name] |= part
    known = parameters_behind(axis.stages, project)
    run = {"model": read_json(inputs("model") / "model.json")}
    if "perplexity" in known:
        run["corpus"] = read_json(inputs("baseline") / "corpus.json")
    run["parameters"] = {key: parameters[key] for key in ("quick", *parameters) if key in known}
    run |= {"device": device, "versions": {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}}
    run["versions"] |= {name: version(name).partition("+")[0] for name in PACKAGES}  # without +cpu, +cu128
    files |= {axis.name: headlines(axis, files), axis.run: run}
    with whole_folder(root / "plots" / axis.name) as folder:
        for table in (path for stage in axis.stages for path in sorted((inputs(stage) / "plots").glob("*.json"))):
            write_rows(folder / table.name, rows := rounded(read_json(table)))
            if table.stem == "sigma":  # its panels say which sense is A
                titles = {word: f"{word} (A = {names['A']})" for word, names in files["sigma"]["senses"].items()}
                rows = [{**row, "word": titles.get(row["word"], row["word"])} for row in rows]
            if (figure := draw(table.stem, rows)) is not None:
                save(figure, folder / f"{table.stem}.png")
    (root / "metrics").mkdir(exist_ok=True)
    for name, content in files.items():
        write_json(root / "metrics" / f"{name}.json", content)


def write_claims(results: Results, root: Path, project: Path) -> None:
    """Write root/metrics/claims.json and root/plots/claims/ from the results of both axes."""
    default = {name: results.metrics[name] for axis in AXES.values() if not axis.on_demand for name in axis.files}
    claims = read_claims(project, default, results.run["model"]["name"])
    write_json(root / "metrics" / "claims.json", {name: claim.record() for name, claim in claims.items()})
    with whole_folder(root / "plots" / "claims") as folder:
        if figure := draw_claims(claims.values()):
            save(figure, folder / "claims.png")


def remove_outdated(root: Path, parameters: Mapping[str, Any]) -> None:
    """Remove what was reported of other parameters, and the claims that rest on it: the workspace is of one run."""
    for axis in AXES.values():
        run = root / "metrics" / f"{axis.run}.json"
        if run.is_file() and differing(read_json(run)["parameters"], parameters):
            for name in (axis.run, axis.name, *axis.files, "claims"):
                run.with_name(f"{name}.json").unlink(missing_ok=True)
            for name in (axis.name, "claims"):
                shutil.rmtree(root / "plots" / name, ignore_errors=True)

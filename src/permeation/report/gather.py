"""Write what git keeps of an axis: its metrics files and plots/<axis>/, from what its stages wrote."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from permeation.frame.asked import Flat
from permeation.frame.errors import PermeationError
from permeation.frame.sealed import replacing, write_whole
from permeation.frame.tables import as_json, read_json, write_rows
from permeation.report.axes import Axis, collect, headlines
from permeation.report.digits import settled
from permeation.report.figures import heads, meaning, style, weights

PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "scipy", "scikit-learn", "matplotlib", "dvc")
FIGURES = {"meaning": meaning.FIGURES, "weights": weights.FIGURES, "heads": heads.FIGURES}


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on, without a build's label: +cpu or +cu128 is a machine's."""
    return {"python": platform.python_version()} | {name: version(name).partition("+")[0] for name in PACKAGES}


def write_axis(axis: Axis, root: Path, outputs: Mapping[str, Path], parameters: Flat) -> None:
    """Write root/metrics/*.json and root/plots/<axis>/ of an axis.

    Everything is made before anything is written, so that a report that fails leaves what was there. The file that says
    of which run the others are is written last. Raises PermeationError where two stages write one key or one table.

    Args:
        outputs: by stage and by `axis.about`, the folder that it wrote.
        parameters: what those outputs depend on.
    """
    files = collect(axis, {stage: read_json(outputs[stage] / "summary.json") for stage in axis.stages})
    about = {name: read_json(outputs[name] / f"{name}.json") for name in axis.about}
    files |= {axis.name: headlines(axis, files), axis.run: about | {"parameters": parameters, "versions": versions()}}
    written = {name: as_json(settled(root / "metrics" / f"{name}.json", content)) for name, content in files.items()}

    style.use_style()
    earlier = root / "plots" / axis.name
    with replacing(earlier) as folder:
        for stage in axis.stages:
            for table in sorted((outputs[stage] / "plots").glob("*.json")):
                if (folder / table.name).exists():
                    raise PermeationError(f"plots/{axis.name}/{table.name}: two stages write it, the second is {stage}")
                write_rows(folder / table.name, rows := settled(earlier / table.name, read_json(table)))
                if rows and (draw := FIGURES[axis.name].get(table.stem)) is not None:
                    style.save(draw(rows), folder / f"{table.stem}.png")
    write_metrics(root, written)


def write_metrics(root: Path, files: Mapping[str, str]) -> None:
    """Write metrics files, each whole."""
    (root / "metrics").mkdir(exist_ok=True)
    for name, content in files.items():
        write_whole(root / "metrics" / f"{name}.json", content)

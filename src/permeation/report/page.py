"""One HTML page of a run, made from what git keeps of it: `python -m permeation.report` writes report.html.

The page is a function of metrics/, plots/ and this code. It holds its figures, runs no script and asks no network for
anything; the same run gives the same bytes.
"""

from __future__ import annotations

import base64
import inspect
import platform
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from permeation.frame.errors import PermeationError
from permeation.frame.sealed import write_whole
from permeation.report.figures import meaning, weights
from permeation.report.findings import read_metrics, sections, sizes
from permeation.report.sections import Metrics

PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "scipy", "scikit-learn", "matplotlib", "dvc")
SCALE = 0.6  # CSS pixels per pixel of a figure, so that all figures' labels have the page's own size
FIGURES = meaning.FIGURES | weights.FIGURES


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def caption(name: str) -> str:
    """The first paragraph of what the figure's function says of itself."""
    draw: Any = FIGURES.get(name)
    said = inspect.getdoc(draw.func if isinstance(draw, partial) else draw) if draw else None
    return " ".join((said or name).split("\n\n")[0].split())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as params.yaml's dotted keys."""
    rows: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows |= flat(value, f"{prefix}{key}.")
        else:
            rows[prefix + key] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return rows


def page(metrics: Metrics, figures: Mapping[str, bytes]) -> str:
    """The page as a string.

    Args:
        metrics: by file name, as `read_metrics` gives them; "run" and "provenance" are needed, any section may lack.
        figures: PNG files by the name of their table; those that no section claims stand at the end.
    """
    provenance = metrics["provenance"]
    found = sections(metrics)
    claimed = {name for section in found for name in section.figures}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja").render(
        sizes=sizes(metrics["run"]),
        model=provenance["model"],
        corpus=provenance["corpus"],
        parameters=flat(provenance["parameters"]),
        versions=provenance["versions"],
        sections=found,
        images={
            name: {"data": base64.b64encode(png).decode(), "width": SCALE * int.from_bytes(png[16:20])}
            for name, png in figures.items()
        },
        others=[name for name in figures if name not in claimed],
        caption=caption,
    )


def write_page(root: Path) -> Path:
    """Write root/report.html from root/metrics and root/plots; gives its path."""
    metrics = read_metrics(root)
    if "provenance" not in metrics:
        raise PermeationError(
            f"{root / 'metrics' / 'provenance.json'} is missing; the stage report writes it (dvc repro)"
        )
    figures = {path.stem: path.read_bytes() for path in sorted((root / "plots").glob("*.png"))}
    target = root / "report.html"
    write_whole(target, page(metrics, figures))  # an earlier page may be a link into DVC's cache
    return target


def main() -> None:
    """Write the page of the run in the current folder; exits 1 with one line where something is missing."""
    try:
        path = write_page(Path())
    except PermeationError as error:
        sys.exit(f"report: {error}")
    sys.stdout.write(f"{path.resolve().as_uri()}\n")

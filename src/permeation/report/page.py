"""One HTML page of a run, made from what git keeps of it: `python -m permeation.report` writes report.html.

The page is a function of metrics/, plots/ and this code. It holds its figures, runs no script and asks no network for
anything; the same run gives the same bytes.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from permeation.frame.asked import PLACES, WHERE, shown
from permeation.frame.sealed import write_whole
from permeation.report.figures import heads, meaning, weights
from permeation.report.findings import sections, sizes
from permeation.report.results import Results

SCALE = 0.6  # CSS pixels per pixel of a figure, so that all figures' labels have the page's own size
FIGURES = meaning.FIGURES | weights.FIGURES | heads.FIGURES


def caption(name: str) -> str:
    """The first paragraph of what the figure's function says of itself."""
    draw: Any = FIGURES.get(name)
    said = inspect.getdoc(draw) if draw else None
    return " ".join((said or name).split("\n\n")[0].split())


def page(results: Results, figures: Mapping[str, bytes]) -> str:
    """The page as a string.

    Args:
        results: what is shown; any axis may lack.
        figures: PNG files by <axis>/<table>; those that no section claims stand at the end.
    """
    found = sections(results.metrics)
    claimed = {name for section in found for name in section.figures}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    images = {
        Path(name).name: {
            "data": base64.b64encode(png).decode(),
            "width": SCALE * int.from_bytes(png[16:20]),
            "table": f"plots/{name}.json",
        }
        for name, png in figures.items()
    }
    places = {f"{key}.{WHERE}" for key in PLACES}
    return environment.get_template("report.html.jinja").render(
        title=results.title,
        words=results.parameters.get("words"),
        sizes=sizes(results.model),
        model=results.model,
        corpus=results.corpus,
        parameters={key: shown(value) for key, value in results.parameters.items() if key not in places},
        versions=results.versions,
        refused=results.refused,
        sections=found,
        images=images,
        others=[name for name in images if name not in claimed],
        caption=caption,
    )


def write_page(results: Results) -> Path:
    """Write report.html beside a run's metrics/ and plots/; gives its path."""
    root = results.place.folder
    figures = {
        f"{axis}/{path.stem}": path.read_bytes()
        for axis in results.runs
        for path in sorted((root / "plots" / axis).glob("*.png"))
    }
    target = root / "report.html"
    write_whole(target, page(results, figures))  # an earlier page may be a link into DVC's cache
    return target

"""One HTML page of a run, report.html: it holds its figures, runs no script and asks no network for anything."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from permeation.report.axes import Axis, flat
from permeation.report.draw import save
from permeation.report.figures import FIGURES, draw_claims
from permeation.report.findings import checked_claims, sections
from permeation.report.gather import write_axis
from permeation.report.results import Place, Results, git

SCALE = 0.6  # CSS pixels per pixel of a figure, so that all figures' labels have the page's own size


def write_page(results: Results, project: Path) -> Path:
    """Write report.html beside the results; gives its path."""
    root = results.place.folder
    pictures = [path for axis in results.runs for path in sorted((root / "plots" / axis).glob("*.png"))]
    images = {path.stem: image(path.read_bytes(), f"plots/{path.parent.name}/{path.stem}.json") for path in pictures}
    if figure := draw_claims(checked_claims(project, results).values()):
        save(figure, drawn := io.BytesIO())
        images["claims"] = image(drawn.getvalue(), "metrics/claims.json")
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, **options)
    content = environment.get_template("report.html.jinja").render(
        results=results,
        run=results.run,
        parameters=flat(results.parameters),
        varied=varied(results, project),
        written={"device": results.run["device"], "page written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
        | {"code": commit(project)},
        sections=sections(project, results),
        images=images,
        captions={name: spec.caption for name, spec in FIGURES.items()},
    )
    target = root / "report.html"
    target.write_text(content, encoding="utf-8")
    return target


def write_report(
    axis: Axis, root: Path, project: Path, inputs: Callable[[str], Path], parameters: dict[str, Any], device: str
) -> None:
    """Write an axis (`write_axis`) and the page of all that is of this run."""
    write_axis(axis, root, inputs, parameters, device)
    write_page(Results.read(Place("report", root), parameters), project)


def image(png: bytes, table: str) -> dict[str, Any]:
    """A figure as the page has it."""
    return {"data": base64.b64encode(png).decode(), "width": round(SCALE * int.from_bytes(png[16:20])), "table": table}


def varied(results: Results, project: Path) -> dict[str, Any]:
    """The parameters of this run that the committed params.yaml has otherwise."""
    committed = flat(Place("HEAD", project, "HEAD").parameters() or {})
    return {key: value for key, value in flat(results.parameters).items() if committed.get(key, value) != value}


def commit(project: Path) -> str:
    """The commit that is checked out, in words."""
    if (found := git(project, "rev-parse", "--short", "HEAD")) is None:
        return "outside git"
    return f"commit {found}{' with changes' if git(project, 'status', '--porcelain') else ''}"

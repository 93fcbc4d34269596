"""One HTML page of a run, report.html: it holds its figures, runs no script and asks no network for anything."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from permeation.frame.tables import parse_yaml
from permeation.report.axes import AXES, flat
from permeation.report.draw import save
from permeation.report.figures import FIGURES, draw_claims
from permeation.report.findings import checked_claims, sections
from permeation.report.results import Place, Results, git

SCALE = 0.6  # CSS pixels per pixel of a figure, so that all figures' labels have the page's own size


def write_page(results: Results, project: Path) -> Path:
    """Write report.html beside the results; gives its path."""
    root = results.place.folder
    pictures = [path for axis in results.runs for path in sorted((root / "plots" / axis).glob("*.png"))]
    images = {path.stem: image(path.read_bytes(), f"plots/{path.parent.name}/{path.stem}.json") for path in pictures}
    if figure := draw_claims(checked_claims(project, results).values()):
        save(figure, drawn := io.BytesIO())
        images["claims"] = image(drawn.getvalue(), "metrics/*.json")
    parameters, committed = flat(results.parameters), Place("HEAD", project, "HEAD").read("params.yaml")
    usual = flat(parse_yaml(committed, "params.yaml")) if committed else {}  # keys may have come or gone since
    run, now = results.run, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    code = git(project, "rev-parse", "--short", "HEAD") or "outside git"
    code += " with changes" * bool(git(project, "status", "--porcelain"))
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, **blocks)
    content = environment.get_template("report.html.jinja").render(
        results=results,
        varied={key: value for key, value in parameters.items() if usual.get(key, value) != value},
        sections=sections(project, results),
        images=images,
        captions={name: figure["caption"] for name, figure in FIGURES.items()},
        facts={
            "Where and when": {"device": run["device"], "page written": now, "commit": code},
            "Seconds by stage, as last run here": seconds(results),
            "Model": run["model"],
            "Text": run.get("corpus", {}),
            "Parameters": parameters,
            "Versions": run["versions"],
        },
    )
    target = root / "report.html"
    target.write_text(content, encoding="utf-8")
    return target


def image(png: bytes, table: str) -> dict[str, Any]:
    """A figure as the page has it."""
    return {"data": base64.b64encode(png).decode(), "width": round(SCALE * int.from_bytes(png[16:20])), "table": table}


def seconds(results: Results) -> dict[str, float]:
    """How long the stages behind what is shown took, and all of them; empty where others ran them."""
    found = {path.stem: path for path in (results.place.folder / "data" / ".journal").glob("*.seconds")}
    stages = (stage for axis in results.runs for stage in AXES[axis].stages if stage in found)
    taken = {stage: float(found[stage].read_text(encoding="utf-8")) for stage in stages}
    return taken and taken | {"all": round(sum(taken.values()))}

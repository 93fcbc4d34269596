"""The experiments of a project: what each of them varied, beside the figures by which one compares them."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from permeation.frame.asked import CONTENT, Flat, shown
from permeation.frame.errors import PermeationError
from permeation.report.asking import asked_at
from permeation.report.results import WORKSPACE, Place, Results
from permeation.report.revisions import figure
from permeation.report.sections import columns

WIDTH = 60  # characters of what was varied in one line, and of why a run cannot be read
# What stands beside it: heading to the metrics file and the keys in it.
FIGURES = {
    "g alike": "g.word_correlation_mean",
    "h = rank": "g.rank.word_correlation_mean",
    "shuffled": "g.rank.null_correlation_mean",
    "AUC": "decode.gradient_own.auc",
    "K for 90 %": "pca.components_for_variance.90",
    "perplexity": "perplexity.baseline.perplexity",
    "best ratio": "perplexity.ratio",
}


def experiments(project: Path) -> str:
    """A table: the committed run, the workspace, and every experiment that DVC knows, the latest first.

    What was varied is held against the committed params.yaml. An axis whose results are not of its own params.yaml has
    dashes; so has a run whose params.yaml this version does not accept, with the beginning of the reason.
    """
    places = [Place("HEAD", project, "HEAD"), Place(WORKSPACE, project), *_refs(project)]
    base = asked_at(places[0]) or {}
    rows: list[tuple[str, ...]] = []
    for place in places:
        try:
            asked = asked_at(place) or {}
            metrics = _metrics(place, asked)
        except PermeationError as error:
            rows.append((place.name, *("–" for _ in FIGURES), _short(str(error).removeprefix(f"{place.name}: "))))
            continue
        varied = _varied(base, asked) or ["as committed"]
        rows.append((place.name, *(figure(_value(metrics, path)) for path in FIGURES.values()), varied[0]))
        rows += [("", *("" for _ in FIGURES), line) for line in varied[1:]]
    header = ("experiment", *FIGURES, "varied")
    widest = max(len(row[-1]) for row in rows)
    return (
        "\n".join(line.rstrip() for line in columns(header, [(*row[:-1], row[-1].ljust(widest)) for row in rows]))
        + "\n"
    )


def _refs(project: Path) -> list[Place]:
    """Every experiment, by the name that DVC shows."""
    form = "--format=%(refname) %(objectname)"
    command = ["git", "for-each-ref", "--sort=-committerdate", form, "refs/exps"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    # refs/exps/<2 digits>/<38 digits of the commit it started from>/<name>; others are DVC's own.
    refs = (line.split() for line in done.stdout.splitlines())
    named = [(name.split("/"), commit) for name, commit in refs]
    return [Place(parts[4], project, commit) for parts, commit in named if len(parts) == 5 and len(parts[2]) == 2]


def _metrics(place: Place, asked: Flat) -> dict[str, Any]:
    try:
        return Results.read(place, asked).metrics
    except PermeationError:  # it has no results of its own parameters, and so no figures
        return {}


def _varied(base: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The parameters that are not the base's, as `dvc exp run -S` takes them, in lines."""
    changed = [
        f"{key}={shown(value).replace(' ', '')}"
        for key, value in asked.items()
        if base.get(key) != value and key != CONTENT and not key.endswith("place_sha256")
    ]
    if base.get(CONTENT) != asked.get(CONTENT) and base.get("words") == asked.get("words"):
        changed.append(f"(another {asked['words']})")
    lines = [""]
    for each in changed:
        if lines[-1] and len(lines[-1]) + len(each) > WIDTH:
            lines.append("")
        lines[-1] += f" {each}" if lines[-1] else each
    return [line for line in lines if line]


def _short(reason: str) -> str:
    """The beginning of a message, in one line of at most WIDTH characters."""
    line = textwrap.shorten(reason, WIDTH, placeholder=" …")
    return line if line != "…" else f"{reason[: WIDTH - 2]} …"  # a first word that is longer than the line


def _value(metrics: Mapping[str, Any], path: str) -> Any:
    """What a path leads to; of ratios the smallest short of all components."""
    part: Any = metrics
    for key in path.split("."):
        part = part.get(key) if isinstance(part, Mapping) else None
    if isinstance(part, Mapping):
        return min((ratio for key, ratio in part.items() if key != "all" and ratio is not None), default=None)
    return part

"""What a run found, in words made from its metrics: the sections that the terminal and the page both show.

A section is a function of the metrics files it names; it is left out where one of them is missing, so that a run of
part of the pipeline has a summary too. New findings are a new function
in SECTIONS of their axis.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json
from permeation.report import claims, meaning_findings, weight_findings
from permeation.report.sections import Metrics, Section

WIDTH = 80  # columns of a terminal
SECTIONS = (*claims.SECTIONS, *meaning_findings.SECTIONS, *weight_findings.SECTIONS)


def read_metrics(root: Path) -> dict[str, Any]:
    """Every file of root/metrics by its name; raises PermeationError where there is none of a run."""
    metrics = {path.stem: read_json(path) for path in sorted((root / "metrics").glob("*.json"))}
    if "run" not in metrics:
        raise PermeationError(f"{root / 'metrics' / 'run.json'} is missing; the pipeline has to run first (dvc repro)")
    return metrics


def sections(metrics: Metrics) -> list[Section]:
    """The sections whose metrics are there."""
    return [write(*(metrics[name] for name in needs)) for needs, write in SECTIONS if set(needs) <= set(metrics)]


def sizes(run: Metrics) -> str:
    """The model's sizes in one line."""
    return (
        f"{run['n_layers']} layers of {run['n_heads']} heads, d_model "
        f"{run['d_model']}, {run['n_parameters'] / 1e6:,.0f} million parameters"
    )


def summarise(metrics: Metrics) -> str:
    """All sections as text of at most 80 columns."""
    run = metrics["run"]
    parts = ["", textwrap.fill(f"{run['model']} on {run['corpus']}: {sizes(run)}", WIDTH)]
    for section in sections(metrics):
        parts += ["", section.title.upper()]
        parts += [textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="  ") for line in section.findings]
        parts += ["", *_aligned(section.header, section.rows)] if section.rows else []
    more = "Look at: report.html, plots/*.png, dvc plots show. Vary it: dvc exp run -S model=gpt2-medium"
    return "\n".join([*parts, "", textwrap.fill(more, WIDTH), ""])


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The table as lines: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  "
        + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in (header, *rows)
    ]

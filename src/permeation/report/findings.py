"""What a run found, in words made from its metrics: the sections that the terminal and the page both show.

A section is a function of the metrics files it names; it is left out where one of them is missing, so that a run of one
axis has a summary too. New findings are a new function in SECTIONS of their axis.
"""

from __future__ import annotations

import textwrap

from permeation.report import claims, head_findings, meaning_findings, weight_findings
from permeation.report.results import Results
from permeation.report.sections import Metrics, Section, columns

WIDTH = 80  # columns of a terminal
SECTIONS = (*claims.SECTIONS, *meaning_findings.SECTIONS, *weight_findings.SECTIONS, *head_findings.SECTIONS)
MORE = (
    "Look at: report.html, plots/*/*.png, .venv/bin/dvc plots show. Vary it: .venv/bin/dvc exp run -S model=gpt2-medium"
)


def sections(metrics: Metrics) -> list[Section]:
    """The sections whose metrics are there."""
    return [write(*(metrics[name] for name in needs)) for needs, write in SECTIONS if set(needs) <= set(metrics)]


def sizes(model: Metrics) -> str:
    """The model's sizes in one line."""
    return (
        f"{model['n_layers']} layers of {model['n_heads']} heads, d_model "
        f"{model['d_model']}, {model['n_parameters'] / 1e6:,.0f} million parameters"
    )


def summarise(results: Results) -> str:
    """All sections as text of at most 80 columns; why an axis is not among them comes last."""
    parts = ["", textwrap.fill(f"{results.about}: {sizes(results.model)}", WIDTH)]
    for section in sections(results.metrics):
        parts += ["", section.title.upper()]
        parts += [textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="  ") for line in section.findings]
        parts += ["", *columns(section.header, section.rows)] if section.rows else []
    for said in (*results.refused.values(), MORE):
        parts += ["", textwrap.fill(said, WIDTH, break_on_hyphens=False)]
    return "\n".join([*parts, ""])

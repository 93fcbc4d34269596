"""What a run found: the sections that the terminal, the page and Markdown show.

For new findings, add a `Question` to QUESTIONS of their axis.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from permeation.report import claims, head_findings, meaning_findings, model_findings, weight_findings
from permeation.report.results import Results
from permeation.report.sections import WIDTH, Section

AXES = (meaning_findings, weight_findings, head_findings, model_findings)
QUESTIONS = tuple(question for axis in AXES for question in axis.QUESTIONS)
MORE = "Look at: report.html, plots/*/*.png, dvc plots show. Vary it: dvc exp run -S model=gpt2-medium"


def checked_claims(project: Path, results: Results) -> dict[str, claims.Claim]:
    """The published claims of the project, checked with what is shown."""
    return claims.read_claims(project, results.metrics, results.run["model"]["name"])


def sections(project: Path, results: Results) -> list[Section]:
    """The claims, then the questions whose metrics are there."""
    metrics = results.metrics | {"parameters": results.parameters}
    asked = [each for each in QUESTIONS if metrics.keys() >= set(each.needs)]
    checked = checked_claims(project, results).values()
    return [*claims.sections(checked), *(question.section(metrics) for question in asked)]


def summary(project: Path, results: Results) -> str:
    """All sections as text of at most 80 columns; why an axis is not among them comes last."""
    parts = [f"{results.about}: {results.sizes}", *results.refused.values(), MORE]
    about, *rest = (textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in parts)
    return "\n\n".join([about, *(section.text() for section in sections(project, results)), *rest]) + "\n"


def markdown(project: Path, results: Results) -> str:
    """The same as Markdown."""
    found = (section.markdown() for section in sections(project, results))
    return "\n\n".join([f"{results.about}: {results.sizes}.", *found, *results.refused.values()]) + "\n"

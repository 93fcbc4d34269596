"""What a run found: the sections that the terminal, the page and Markdown show.

For a new finding, add a question to findings.yaml and a function of its name to facts.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from permeation.frame.tables import read_yaml
from permeation.report import claims, facts
from permeation.report.results import Results
from permeation.report.sections import WIDTH, Metrics, Section, fill

QUESTIONS: Mapping[str, Any] = read_yaml(Path(__file__).with_name("findings.yaml"))
MORE = "Look at: report.html, plots/*/*.png, dvc plots show. Vary it: dvc exp run -S model=gpt2-medium"


def answered(key: str, metrics: Metrics) -> Section:
    """A question of findings.yaml, with the figures of these metrics."""
    question = QUESTIONS[key]
    answer, here, table = getattr(facts, key)(metrics)
    first, *rest = (fill(sentence, {**metrics, "here": here}) for sentence in question["sentences"])
    word = {True: "Yes", False: "No", None: "Open"}[answer if first else None]
    opening = f"{word}: {first or question.get('open', 'it was not measured.')}"
    return Section(question["title"], [opening, *filter(None, rest)], table, question["figures"])


def checked_claims(project: Path, results: Results) -> dict[str, claims.Claim]:
    """The published claims of the project, checked with what is shown."""
    return claims.read_claims(project, results.metrics, results.run["model"]["name"])


def sections(project: Path, results: Results) -> list[Section]:
    """The claims, then the questions whose metrics are there."""
    metrics = results.metrics | {"parameters": results.parameters}
    asked = [key for key, question in QUESTIONS.items() if metrics.keys() >= set(question["needs"])]
    checked = checked_claims(project, results).values()
    return [*claims.sections(checked), *(answered(key, metrics) for key in asked)]


def summary(project: Path, results: Results) -> str:
    """All sections as text of at most 80 columns; why an axis is not among them comes last."""
    more = [MORE] if results.place.folder == project else []  # a folder of results has no page
    parts = [f"{results.about}: {results.sizes}", *results.refused.values(), *more]
    about, *rest = (textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in parts)
    return "\n\n".join([about, *(section.text() for section in sections(project, results)), *rest]) + "\n"


def markdown(project: Path, results: Results) -> str:
    """The same as Markdown."""
    found = (section.markdown() for section in sections(project, results))
    return "\n\n".join([f"{results.about}: {results.sizes}.", *found, *results.refused.values()]) + "\n"

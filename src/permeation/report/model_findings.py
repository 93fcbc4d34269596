"""What models of one shape have in common, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permeation.report.labels import label
from permeation.report.sections import Metrics, Question, Table, interval, measured, number
from permeation.report.weight_findings import ENDS, KEPT, SMALL


def _groups(metrics: Metrics) -> dict[str, Mapping[str, Any]]:
    return {name: part for name, part in metrics["universal"].items() if isinstance(part, Mapping) and "ratio" in part}


def _small(metrics: Metrics) -> list[str]:
    """The groups that take few components, and fewer than half of the same matrices rotated at random."""
    ends = {name: part["components_for_variance"]["90"]["high"] for name, part in _groups(metrics).items()}
    return [name for name, part in _groups(metrics).items() if ends[name] <= min(SMALL, part["null"]["rotated"] / 2)]


def _kept(metrics: Metrics) -> list[str]:
    return [name for name, part in _groups(metrics).items() if max(part["ratio_high"]["mean_and_K"].values()) <= KEPT]


def _count(metrics: Metrics) -> Metrics:
    groups = _groups(metrics)
    return {"groups": len(groups), "small": len(_small(metrics)), "kept": len(_kept(metrics))}


def _spectra(metrics: Metrics) -> Table:
    rows = []
    for name, part in _groups(metrics).items():
        rows.append((label(name), measured(part["components_for_variance"]["90"])))
        rows += [(f"{label(name)}: {null}", number(value)) for null, value in part["null"].items()]
    return ("models", "components for 90 %"), rows


def _ratios(metrics: Metrics) -> Table:
    rows = [
        (f"{label(name)}: {label(curve) if curve != 'mean' else 'mean'}, K = {K}", interval(*ends))
        for name, part in _groups(metrics).items()
        for curve, ratios in part["ratio"].items()
        for K in ratios
        if (ends := [part[f"ratio{end}"][curve][K] for end in ENDS])
    ]
    return ("models and what replaces one", "perplexity ratio"), rows


QUESTIONS = (
    Question(
        "Do models of one shape share a small subspace?",
        ("universal",),
        lambda metrics: len(_small(metrics)) == len(_groups(metrics)),
        (
            f"in {{here.small}} of {{here.groups}} groups of models {SMALL} components at most hold 90 % of a matrix's "
            "variance, mean taken out, and fewer than half of what the same matrices rotated at random take.",
        ),
        facts=_count,
        table=_spectra,
        figures=("spectra",),
    ),
    Question(
        "Can a model be rebuilt from the others?",
        ("universal",),
        lambda metrics: len(_kept(metrics)) == len(_groups(metrics)),
        (
            "each model's weights are replaced by what the other models' mean and K components make of them. In "
            "{here.kept} of {here.groups} groups that keeps the perplexity within 5 %.",
        ),
        facts=_count,
        table=_ratios,
        figures=("left_out",),
    ),
)

"""What models of one shape have in common, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permeation.report.labels import label
from permeation.report.sections import Metrics, Question, Table, measured, number
from permeation.report.weight_findings import KEPT, SMALL


def _groups(metrics: Metrics) -> dict[str, Mapping[str, Any]]:
    return {name: part for name, part in metrics["universal"].items() if isinstance(part, Mapping) and "ratio" in part}


def _count(metrics: Metrics) -> Metrics:
    """How many groups take few components, fewer than half of the same matrices rotated; how many models are kept."""
    groups = _groups(metrics).values()
    small = [
        part["components_for_variance"]["90"]["high"] <= min(SMALL, part["null"]["rotated"] / 2) for part in groups
    ]
    kept = [max(ratio["high"] for ratio in part["ratio"]["mean_and_K"].values()) <= KEPT for part in groups]
    return {"groups": len(groups), "small": sum(small), "kept": sum(kept)}


def _spectra(metrics: Metrics) -> Table:
    rows = []
    for name, part in _groups(metrics).items():
        rows.append((label(name), measured(part["components_for_variance"]["90"])))
        rows += [(f"{label(name)}: {null}", number(value)) for null, value in part["null"].items()]
    return ("models", "components for 90 %"), rows


def _ratios(metrics: Metrics) -> Table:
    rows = [
        (f"{label(name)}: {curve.replace('_', ' ')}, K = {K}", measured(ratio))
        for name, part in _groups(metrics).items()
        for curve, ratios in part["ratio"].items()
        for K, ratio in ratios.items()
    ]
    return ("models and what replaces one", "perplexity ratio"), rows


QUESTIONS = (
    Question(
        "Do models of one shape share a small subspace?",
        ("universal",),
        lambda metrics: (found := _count(metrics))["small"] == found["groups"],
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
        lambda metrics: (found := _count(metrics))["kept"] == found["groups"],
        (
            "each model's weights are replaced by what the other models' mean and K components make of them. In "
            "{here.kept} of {here.groups} groups that keeps the perplexity within 5 %.",
        ),
        facts=_count,
        table=_ratios,
        figures=("left_out",),
    ),
)

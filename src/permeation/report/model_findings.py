"""What models of one shape have in common, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from permeation.report.labels import label
from permeation.report.sections import Metrics, Question, Table, interval, measured, number

SMALL = 32  # components, as published
KEPT = 1.05  # the ratio up to which a model counts as kept


def _groups(metrics: Metrics) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return (
        (name, part) for name, part in metrics["universal"].items() if isinstance(part, Mapping) and "ratio" in part
    )


def _spectra(metrics: Metrics) -> Table:
    rows = []
    for name, part in _groups(metrics):
        rows.append((label(name), measured(part["components_for_variance"]["90"])))
        rows += [(f"{label(name)}: {null}", number(value)) for null, value in part["null"].items()]
    return ("models", "components for 90 %"), rows


def _is_small(metrics: Metrics) -> bool:
    """Whether all groups take few components, and fewer than half of the same matrices rotated at random."""
    parts = [(part["components_for_variance"]["90"]["high"], part["null"]["rotated"]) for _, part in _groups(metrics)]
    return all(high <= SMALL and high < null / 2 for high, null in parts)


def _ratios(metrics: Metrics) -> Table:
    rows = []
    for name, part in _groups(metrics):
        for curve, of_counts in part["ratio"].items():
            for K, ratio in of_counts.items():
                ends = (part[f"ratio{end}"][curve][K] for end in ("_low", "_high"))
                count = "" if K == "0" and curve == "mean" else f", K = {K}"
                rows.append((f"{label(name)}: {curve.replace('_', ' ')}{count}", interval(ratio, *ends)))
    return ("models and what replaces one", "perplexity ratio"), rows


def _is_kept(metrics: Metrics) -> bool:
    return all(max(part["ratio_high"]["mean_and_K"].values()) <= KEPT for _, part in _groups(metrics))


def _training(metrics: Metrics) -> Table:
    rows = []
    for series, texts in metrics["universal"]["held_out"].items():
        for text, found in texts.items():
            said = ", ".join(f"{found[how]} {how}" for how in ("learned", "overfitted", "diverged") if how in found)
            rows.append((f"{label(series)}, {text}", number(found["before"]), number(found["after"]), said))
    return ("series, text", "before", "after", "models"), rows


QUESTIONS = (
    Question(
        "Do models of one shape share a small subspace?",
        ("universal",),
        _is_small,
        ("the components that 90 % of the variance of a matrix take, mean taken out, beside the same of null models.",),
        table=_spectra,
        figures=("spectra",),
    ),
    Question(
        "Can a model be rebuilt from the others?",
        ("universal",),
        _is_kept,
        (
            "each model's weights are replaced by what the other models' mean and K components make of them. The best "
            "shared K has to keep the perplexity within 5 %.",
        ),
        table=_ratios,
        figures=("left_out",),
    ),
    Question(
        "Did the models that were made here learn?",
        ("universal",),
        lambda metrics: all(
            "diverged" not in found for texts in metrics["universal"]["held_out"].values() for found in texts.values()
        ),
        ("the loss on held-out text in nats a token, before and after training, mean over seeds.",),
        table=_training,
    ),
)

"""What was found where both axes meet, in words: which heads bring the sense, and what compression does to it."""

from __future__ import annotations

from collections.abc import Mapping

from permeation.report.labels import label
from permeation.report.sections import Metrics, Question, Table, measured, number

LOST = 0.95  # a compressed model that keeps less of the sense has lost some


def _few_heads(metrics: Metrics) -> bool:
    roles = metrics["head_roles"]
    return bool(roles["heads"]["within_sense"] < roles["heads"]["exchange"] <= roles["n_heads"] / 10)


def _beside(metrics: Metrics) -> Table:
    """ρ over all heads and within layers, with its p; of clusters η², which has no such parts."""
    rows = []
    for name, figures in metrics["head_roles"]["beside"]["exchange"].items():
        within = figures.get("within_layers") or {"value": None, "p": figures["p"]}
        value = measured(figures) if "low" in figures else number(figures["value"])
        rows.append((label(name), value, number(within["value"]), number(within["p"])))
    return ("role beside", "ρ, 95 % interval", "within layers", "p"), rows


def _loses_sense(metrics: Metrics) -> bool | None:
    least = metrics["compressed"]["gap"]["least_within_5"]
    return True if least["high"] < LOST else False if least["low"] >= LOST else None


def _kept(metrics: Metrics) -> Table:
    parts = {name: part for name, part in metrics["compressed"].items() if isinstance(part, Mapping) and "rank" in part}
    rows = [
        (label(name), *(measured(part[end]) if part[end] else "–" for end in ("least_within_5", "most_beyond_25")))
        for name, part in parts.items()
    ]
    return ("share kept of", "least within 5 %", "most beyond 25 %"), rows


QUESTIONS = (
    Question(
        "Do few heads bring the sense?",
        ("head_roles",),
        _few_heads,
        (
            "of {head_roles.n_heads} heads {head_roles.heads.exchange} change what follows when their output at the "
            "word is exchanged between the two senses (family-wise p < 0.05, {head_roles.pairs} pairs of "
            "{head_roles.words} words); exchanged within a sense {head_roles.heads.within_sense} do, moved as far in "
            "a random direction {head_roles.heads.random}.",
            "The largest effect is that of head {head_roles.largest.head} (layer.head, from 0), {head_roles.largest} "
            "of the difference between the senses.",
            "The ten heads that do most, one at a time, add up to {head_roles.top}; the ten largest of the controls to "
            "{head_roles.top_controls.within_sense} (within a sense) and {head_roles.top_controls.random} (random "
            "direction). {head_roles.half} heads make half of all that single heads do.",
            "Two words' maps of the heads correlate by {head_roles.agreement.value} (rank), shuffled within layers by "
            "{head_roles.agreement.null} (p = {head_roles.agreement.p}); maps from two halves of one word's pairs by "
            "{head_roles.agreement.reliability}, from halves of two words' by {head_roles.agreement.between_halves}.",
            "Left out, because the next token does not tell their senses apart: {head_roles.unmeasurable_words}.",
        ),
        table=_beside,
        figures=("head_roles",),
    ),
    Question(
        "Does compression lose the sense before it loses perplexity?",
        ("compressed",),
        _loses_sense,
        (
            "of {compressed.models} compressed models the one within 5 % of the perplexity that keeps least of the "
            "difference between the senses, {compressed.gap.least_within_5.method}, keeps "
            "{compressed.gap.least_within_5}.",
            "Of those that lose 25 % and more the one that keeps most, {compressed.gap.most_beyond_25.method}, keeps "
            "{compressed.gap.most_beyond_25}.",
        ),
        open="no compressed model is within 5 % of the perplexity.",
        table=_kept,
        figures=("compressed",),
    ),
)

"""What was found where both axes meet, in words: which heads bring the sense, and what compression does to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from permeation.report.labels import label
from permeation.report.sections import Metrics, Section, counted, measured, number, share

LOST = 0.95  # a compressed model that keeps less of the sense has lost some


def which_heads(roles: Metrics) -> Section:
    """Which heads bring the sense, with the controls beside."""
    heads, top, agreement = roles["heads"], roles["top"], roles["agreement"]
    beside = roles["beside"]["exchange"]
    few = 0 < heads["exchange"] <= roles["n_heads"] / 10 and heads["exchange"] > heads["within_sense"]
    left_out = ", ".join(roles["unmeasurable_words"])
    largest = roles["largest"]
    controls = ", ".join(f"{number(value)} ({label(name)})" for name, value in roles["top_controls"].items())
    findings = [
        f"{'Yes' if few else 'No'}: of {roles['n_heads']} heads {heads['exchange']} change what follows when their "
        f"output at the word is exchanged between the two senses (family-wise p < 0.05, {roles['pairs']} pairs of "
        f"{counted(roles['words'], 'word')}); exchanged within a sense {heads['within_sense']} do, moved as far in a "
        f"random direction {heads['random']}.",
        f"The largest effect is that of head {largest['head']} (layer.head, from 0), {measured(largest, 'share')} of "
        "the difference between the senses.",
        f"The ten heads that do most, one at a time, add up to {measured(top, 'share')}; the ten largest of the "
        f"controls to {controls}. {roles['half']} heads make half of all that single heads do.",
    ]
    if agreement is not None:
        findings.append(
            f"Two words' maps of the heads correlate by {number(agreement['value'])} (rank), shuffled within layers by "
            f"{number(agreement['null'])} (p = {number(agreement['p'])}); maps from two halves of one word's pairs by "
            f"{number(agreement['reliability'])}, from halves of two words' by {number(agreement['between_halves'])}."
        )
    findings += [f"Left out, because the next token does not tell their senses apart: {left_out}."] if left_out else []
    return Section(
        "Do few heads bring the sense?",
        findings,
        ("role beside", "ρ, 95 % interval", "within layers", "p"),
        [(label(name), *_beside(figures)) for name, figures in beside.items()],
        ("head_roles",),
    )


def kept_sense(compressed: Metrics) -> Section:
    """Whether compression loses the sense before it loses perplexity."""
    measures = [name for name, part in compressed.items() if isinstance(part, Mapping) and "rank" in part]
    least, most = (compressed["gap"][name] for name in ("least_within_5", "most_beyond_25"))
    answer = "Open" if least is None else "Yes" if least["high"] < LOST else "No" if least["low"] >= LOST else "Open"
    return Section(
        "Does compression lose the sense before it loses perplexity?",
        [
            f"{answer}: of {counted(compressed['models'], 'compressed model')} those within 5 % of the perplexity keep "
            f"{_kept(least)} at least of the difference between the senses in what follows; those that lose 25 % and "
            f"more keep {_kept(most)} at most.",
        ],
        ("kept of", "least within 5 %", "most beyond 25 %"),
        [
            (label(name), *(_kept(compressed[name][end]) for end in ("least_within_5", "most_beyond_25")))
            for name in measures
        ],
        ("compressed",),
    )


def _beside(figures: Metrics) -> tuple[str, str, str]:
    """ρ over all heads and within layers, with its p; of clusters η², which has no such parts."""
    if "low" not in figures:
        return f"{number(figures['value'])} (shuffled {number(figures['null'])})", "–", number(figures["p"])
    within = figures["within_layers"] or {"value": None, "p": figures["p"]}
    return measured(figures), number(within["value"]), number(within["p"])


def _kept(row: Any) -> str:
    return "–" if row is None else f"{share(row['kept'])} [{number(100 * row['low'])}, {number(100 * row['high'])}]"


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("head_roles",), which_heads),
    (("compressed",), kept_sense),
)

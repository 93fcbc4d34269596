"""What was found where both axes meet, in words: which heads bring the sense, and what compression does to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from permeation.report.labels import label
from permeation.report.sections import Metrics, Section, counted, share


def which_heads(roles: Metrics) -> Section:
    """Which heads bring the sense, with the controls beside."""
    heads, strongest, top, agreement = (roles[key] for key in ("heads", "strongest", "top", "agreement"))
    beside = roles["beside"]["exchange"]
    left_out = ", ".join(roles["unmeasurable_words"])
    findings = [
        f"Of {roles['n_heads']} heads {heads['exchange']} change what follows when their output at the word is "
        f"exchanged between the two senses (family-wise p < 0.05, {roles['pairs']} pairs of "
        f"{counted(roles['words'], 'word')}); exchanged within a sense {heads['within_sense']} do, moved as far in a "
        f"random direction {heads['random']}.",
        f"The ten heads that do most, one at a time, add up to {_with_interval(top, 'share')} of the difference "
        f"between the senses; {roles['half']} heads make half of all that single heads do. Another prompt of the same "
        f"sense does {roles['control_max']['within_sense']:.3f} at most, a random direction "
        f"{roles['control_max']['random']:.3f}.",
    ]
    if strongest is not None:
        findings.append(
            f"Of those told from chance the strongest is {strongest['head']} (layer.head, from 0), with "
            f"{_with_interval(strongest, 'share')}."
        )
    if agreement is not None:
        findings.append(
            f"Two words' maps of the heads correlate by {agreement['value']:z.2f} (rank) on average, shuffled within "
            f"layers by {agreement['null']:z.2f} (p = {agreement['p']:.2g})."
        )
    findings.append(
        f"A head's role correlates (rank) with its part in components of low variance by "
        f"{_with_interval(beside['low_variance_gram'], 'value')} in gram form and "
        f"{_with_interval(beside['low_variance_score'], 'value')} in score form, with what the perplexity loses "
        f"without it by {_with_interval(beside['cost'], 'value')} ({roles['costly']} heads cost something), with its "
        f"attention to the deciding words by {_with_interval(beside['attention'], 'value')}."
    )
    findings += [f"Left out, because the next token does not tell their senses apart: {left_out}."] if left_out else []
    return Section(
        "Which heads bring the sense?",
        findings,
        ("role beside", "ρ, 95 % interval", "within layers", "p"),
        [(label(name), *_beside(figures)) for name, figures in beside.items()],
        ("head_roles", "heads_beside"),
    )


def kept_sense(compressed: Metrics) -> Section:
    """Whether compression loses the sense before it loses perplexity."""
    measures = [name for name, part in compressed.items() if isinstance(part, Mapping) and "rank" in part]
    gap = compressed["gap"]
    findings = [
        f"Of {counted(compressed['models'], 'compressed model')}, among those within 5 % of the perplexity the least "
        f"of the difference between the senses in what follows is {_kept(gap['least_within_5'])}; among those that "
        f"lose 25 % and more the most is {_kept(gap['most_beyond_25'])}.",
        "1 is all that the untouched model has of it; for the intervals words are resampled.",
    ]
    return Section(
        "Does compression lose the sense before it loses perplexity?",
        findings,
        ("kept of", "least within 5 %", "most beyond 25 %"),
        [
            (
                label(name),
                _kept(compressed[name]["least_within_5"]),
                _kept(compressed[name]["most_beyond_25"]),
            )
            for name in measures
        ],
        ("compressed",),
    )


def _with_interval(figures: Metrics, name: str) -> str:
    return f"{figures[name]:z.2f} [{figures['low']:z.2f}, {figures['high']:z.2f}]"


def _beside(figures: Metrics) -> tuple[str, str, str]:
    """ρ over all heads and within layers, with its p; of clusters η², which has no such parts."""
    if "low" not in figures:
        return f"{figures['value']:.2f} (shuffled {figures['null']:.2f})", "–", f"{figures['p']:.2g}"
    within = figures["within_layers"]
    inner = ("–", f"{figures['p']:.2g}") if within is None else (f"{within['value']:z.2f}", f"{within['p']:.2g}")
    return _with_interval(figures, "value"), *inner


def _kept(row: Any) -> str:
    if row is None:
        return "none measured"
    return f"{share(row['kept'])} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("head_roles",), which_heads),
    (("compressed",), kept_sense),
)

"""The table of claims: what was published, what this run found, what the null model gives, and a verdict by one rule.

The rule. A claim holds where all of the found figure's 95 % interval lies in what the claim accepts, or the figure
itself where it has no interval. It fails where none of it does. Where the two overlap they are not told apart. A claim
that holds for the null model's figure, too, says nothing (`null_too`).

A bootstrap adds its noise to the data's, so that an interval may miss its estimate; it is taken to reach it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from permeation.frame.tables import read_yaml
from permeation.report.axes import look_up
from permeation.report.labels import label
from permeation.report.sections import Metrics, Section, interval, number

TOLERANCE = 0.1  # of `about`, relative
RULE = (
    "A claim holds where the 95 % interval of what was found, or the figure where it has none, lies in what the claim "
    "accepts; it fails where they are apart. An overlap is not told apart."
)
Figure = tuple[float, float, float]  # a value and the ends of its interval


@dataclass(frozen=True)
class Claim:
    """A published claim beside what was found.

    Attributes:
        words, published: the claim, and its figure as text.
        general: meant for all models; otherwise the figure of some.
        found: the figure; of a mapping the smallest and the largest; empty where it was not measured.
        null: the null model's figure.
        accepted: between which figures the claim holds.
        verdict: None for a figure of other models.
    """

    words: str
    published: str
    general: bool
    found: Sequence[Figure]
    null: Figure | None
    accepted: tuple[float, float]
    verdict: str | None

    def record(self) -> dict[str, Any]:
        """The claim as metrics/claims.json has it; found is a list where it is the smallest and the largest."""
        values = [value for value, _, _ in self.found]
        ends = [figure for figure in self.found if figure[1] < figure[2]]
        return {
            "published": self.published,
            "found": values[0] if len(values) == 1 else values or None,
            "low": min((low for _, low, _ in ends), default=None),
            "high": max((high for _, _, high in ends), default=None),
            "null": self.null[0] if self.null else None,
            "verdict": self.verdict,
        }

    def found_text(self) -> str:
        """What was found, with its interval."""
        if len(self.found) == 1 and self.found[0][1] < self.found[0][2]:
            return interval(*self.found[0])
        return " to ".join(number(value) for value, _, _ in self.found) or "–"

    def row(self) -> tuple[str, ...]:
        """What was found, the null model's figure, and the verdict."""
        return self.found_text(), number(self.null[0] if self.null else None), label(self.verdict or "–")


def read_claims(project: Path, metrics: Metrics, model: str) -> dict[str, Claim]:
    """The claims of data/published.yaml by name, checked with a run's metrics."""
    published = read_yaml(project / "data" / "published.yaml")
    return {name: check(claim, metrics, model) for name, claim in published.items()}


def check(claim: Mapping[str, Any], metrics: Metrics, model: str) -> Claim:
    """One claim of data/published.yaml, checked with a run's metrics."""
    ((rule, value),) = claim["accepts"].items()
    found = _figures(metrics, claim, "metric", "low", "high")
    null = _figures(metrics, claim, "null_model", "null_low", "null_high")
    accepted, general = _accepted(rule, value), claim["model"] == "all"
    verdict = _verdict(found, rule, accepted)
    if verdict == "holds" and null and _verdict(null, rule, accepted) != "fails":
        verdict = "null_too"
    judged = general or model.rpartition("/")[2] in claim["model"].split(", ")
    texts = claim["claim"], claim["published"]
    return Claim(*texts, general, found, null[0] if null else None, accepted, verdict if judged else None)


def sections(claims: Collection[Claim]) -> Iterator[Section]:
    """The claims meant for all models, with verdicts; then the figures of single models beside this one's."""
    general = [claim for claim in claims if claim.general]
    yield Section(
        "Do the published claims hold?",
        [f"{_answer(general)}: of {len(general)} claims that are meant for all models: {_counts(general)}.", RULE],
        ("claim", "found", "null", "verdict"),
        [(claim.words, *claim.row()) for claim in general],
        ("claims",),
    )
    special = [claim for claim in claims if not claim.general]
    judged = [claim for claim in special if claim.verdict]
    beside = "Open: they are claimed of GPT-2 alone, and stand beside this model's without a verdict."
    yield Section(
        "Does this model have GPT-2's figures?",
        [f"{_answer(judged)}: of {len(judged)} figures: {_counts(judged)}." if judged else beside],
        ("figure", "GPT-2", "found", "null", "verdict"),
        [(claim.words, claim.published, *claim.row()) for claim in special],
    )


def _answer(claims: Collection[Claim]) -> str:
    verdicts = {claim.verdict for claim in claims}
    return "No" if "fails" in verdicts else "Yes" if verdicts == {"holds"} else "Open"


def _counts(claims: Collection[Claim]) -> str:
    counts = Counter(str(claim.verdict) for claim in claims)
    return ", ".join(f"{label(verdict)} {count}" for verdict, count in counts.items())


def _accepted(rule: str, value: Any) -> tuple[float, float]:
    """The smallest and the largest figure with which a claim holds."""
    if rule == "about":
        return value * (1 - TOLERANCE), value * (1 + TOLERANCE)
    if rule == "between":
        return float(value[0]), float(value[1])
    if rule == "apart":  # compares the figures with each other
        return math.inf, math.inf
    return (-math.inf, float(value)) if rule == "at_most" else (float(value), math.inf)


def _verdict(found: Sequence[Figure], rule: str, accepted: tuple[float, float]) -> str:
    if not found or (rule == "apart" and len(found) < 2):
        return "not_measured"
    if rule == "apart":
        return "holds" if found[0][2] < found[1][1] else "not_told_apart"
    least, most = accepted
    if any(high < least or most < low for _, low, high in found):
        return "fails"
    inside = all(least <= low and high <= most for _, low, high in found)
    return "holds" if inside and rule != "not_rejected" else "not_told_apart"


def _figures(metrics: Metrics, claim: Mapping[str, Any], *keys: str) -> list[Figure]:
    """The figure with its interval, of a mapping the smallest and the largest; none where it was not measured."""
    figure, low, high = (look_up(metrics, claim.get(key)) for key in keys)
    size = look_up(metrics, claim["per"]) if "per" in claim else 1
    if not isinstance(figure, Mapping):
        figure, low, high = ({"": each} for each in (figure, low, high))
    known = {key: value for key, value in figure.items() if value is not None}  # K may exceed the number of heads
    if not known or size is None:
        return []
    found = []
    for key in dict.fromkeys(choose(known, key=known.__getitem__) for choose in (min, max)):
        bounds = [known[key], *(each[key] for each in (low, high) if each and each.get(key) is not None)]
        found.append((known[key] / size, min(bounds) / size, max(bounds) / size))
    return found

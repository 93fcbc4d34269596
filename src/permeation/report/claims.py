"""The table of claims: what was published, what this run found, what the null model gives, and a verdict by one rule.

The rule is RULE. A claim that holds for the null model's figure, too, says nothing (`null_too`). A bootstrap adds its
noise to the data's, so that an interval may miss its estimate; it is taken to reach it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from permeation.frame.tables import read_yaml
from permeation.report.labels import label
from permeation.report.sections import Metrics, Section, interval, look_up, number

RULE = (
    "A claim holds where the 95 % interval of what was found, or the figure where it has none, lies in what the claim "
    "accepts; it fails where they are apart. An overlap is not told apart. A range fails with either of its ends."
)
ACCEPTED: Mapping[str, Callable[[Any], tuple[float, float]]] = {  # from which figure to which a claim holds
    "about": lambda x: (0.9 * x, 1.1 * x),
    "between": tuple,
    "at_least": lambda x: (x, math.inf),
    "at_most": lambda x: (-math.inf, x),
    "not_rejected": lambda x: (x, math.inf),
    "apart": lambda _: (math.inf, math.inf),  # compares the figures with each other
}
Figure = tuple[float, float, float]  # a value and the ends of its interval


@dataclass(frozen=True)
class Claim:
    """A published claim beside what was found.

    Attributes:
        words, published: the claim, and its figure as text.
        general: meant for all models; otherwise the figure of some.
        found: the figure; of a mapping the smallest and the largest; empty where it was not measured.
        null: the null model's, likewise.
        accepted: between which figures the claim holds.
        verdict: None for a figure of other models.
    """

    words: str
    published: str
    general: bool
    found: Sequence[Figure]
    null: Sequence[Figure]
    accepted: tuple[float, float]
    verdict: str | None

    def record(self) -> dict[str, Any]:
        """The claim as metrics/claims.json has it; found is a list where it is the smallest and the largest."""
        values, null = ([value for value, _, _ in figures] for figures in (self.found, self.null))
        ends = [(low, high) for _, low, high in self.found if low < high]
        return {
            "published": self.published,
            "found": values[0] if len(values) == 1 else values or None,
            "low": min((low for low, _ in ends), default=None),
            "high": max((high for _, high in ends), default=None),
            "null": null[0] if len(null) == 1 else null or None,
            "verdict": self.verdict,
        }

    def row(self) -> tuple[str, str, str]:
        """What was found, with its interval; the null model's figure; the verdict."""
        found, null = (" to ".join(number(value) for value, _, _ in each) or "–" for each in (self.found, self.null))
        return interval(*self.found[0]) if len(self.found) == 1 else found, null, label(self.verdict or "–")


def read_claims(project: Path, metrics: Metrics, model: str) -> dict[str, Claim]:
    """The claims of data/published.yaml by name, checked with a run's metrics."""
    published = read_yaml(project / "data" / "published.yaml")
    return {name: check(claim, metrics, model) for name, claim in published.items()}


def check(claim: Mapping[str, Any], metrics: Metrics, model: str) -> Claim:
    """One claim of data/published.yaml, checked with a run's metrics."""
    ((rule, value),) = claim["accepts"].items()
    found = _figures(metrics, claim, "metric", "low", "high")
    null = _figures(metrics, claim, "null_model", "null_low", "null_high")
    least, most = map(float, ACCEPTED[rule](value))
    accepted, general = (least, most), claim["model"] == "all"
    verdict = _verdict(found, rule, accepted)
    if verdict == "holds" and null and _verdict(null, rule, accepted) != "fails":
        verdict = "null_too"
    judged = general or model.rpartition("/")[2] in claim["model"].split(", ")
    texts = claim["claim"], claim["published"]
    return Claim(*texts, general, found, null, accepted, verdict if judged else None)


def sections(claims: Collection[Claim]) -> tuple[Section, Section]:
    """The claims meant for all models, with verdicts; then the figures of single models beside this one's."""
    general, special = ([claim for claim in claims if claim.general == wanted] for wanted in (True, False))
    judged = [claim for claim in special if claim.verdict]
    said = "Open: they are claimed of GPT-2 alone, and stand beside this model's without a verdict."
    return Section(
        "Do the published claims hold?",
        [_answer(general, "claims that are meant for all models"), RULE],
        [("claim", "found", "null", "verdict"), *((claim.words, *claim.row()) for claim in general)],
        ["claims"],
    ), Section(
        "Does this model have GPT-2's figures?",
        [_answer(judged, "figures") if judged else said],
        [("figure", "GPT-2", "found", "null", "verdict")]
        + [(claim.words, claim.published, *claim.row()) for claim in special],
    )


def _answer(claims: Collection[Claim], of: str) -> str:
    """Yes where all hold, No where one fails, and how many have each verdict."""
    counts = Counter(str(claim.verdict) for claim in claims)
    word = "No" if counts["fails"] else "Yes" if {*counts} == {"holds"} else "Open"
    verdicts = "; ".join(f"{label(verdict)} {count}" for verdict, count in counts.items())
    return f"{word}: of {len(claims)} {of}: {verdicts}."


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

"""The table of claims: what was published, what this run found, what the null model gives, and the verdict by one rule.

The rule. A figure with a 95 % interval *meets* a claim where the interval and what the claim accepts overlap; one
without an interval, where it lies in what the claim accepts; of a mapping, where its smallest and its largest value do.
A bootstrap adds its noise to the data's, so that the interval of a correlation may lie below its estimate; it is taken
to reach it.

A claim whose figure meets it `holds`; if the null model's figure meets it as well, it holds and so does the null
(`null_too`), and then it says nothing. A claim whose figure does not meet it `fails`. Without a figure it is
`not_measurable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_yaml
from permeation.report.labels import label
from permeation.report.sections import Metrics, Section

TOLERANCE = 0.1  # of `about`, relative
NEEDED = ("claim", "figure", "source", "model", "metric", "accepts")
KEYS = (*NEEDED, "low", "high", "null_model", "null_low", "null_high", "per", "first")
RULES = ("about", "at_least", "at_most", "above", "between")


@dataclass(frozen=True)
class Accepted:
    """The figures with which a claim holds: low to high, low itself among them unless `open`."""

    low: float
    high: float
    open: bool = False

    @classmethod
    def of(cls, rule: str, value: Any) -> Accepted:
        """What a rule of RULES accepts."""
        low, high = map(float, value if rule == "between" else (value, value))
        if rule == "about":
            return cls(low * (1 - TOLERANCE), high * (1 + TOLERANCE))
        return {
            "between": cls(low, high),
            "at_most": cls(-math.inf, high),
            "at_least": cls(low, math.inf),
            "above": cls(low, math.inf, open=True),
        }[rule]

    def meets(self, low: float, high: float) -> bool:
        """Whether the interval, a single number where both ends are the same, overlaps with what is accepted."""
        return low <= self.high and (high > self.low if self.open else high >= self.low)


def read_claims(path: Path) -> dict[str, dict[str, Any]]:
    """The claims by name; raises PermeationError that names the claim and the key where one is not of the form."""
    claims = read_yaml(path)
    for name, claim in claims.items():
        if not isinstance(claim, Mapping) or not set(NEEDED) <= set(claim) <= set(KEYS):
            raise PermeationError(f"{path}: {name}: accepted: a mapping with {', '.join(NEEDED)} and any of {KEYS[6:]}")
        if not isinstance(claim["accepts"], Mapping) or [*claim["accepts"]] not in [[rule] for rule in RULES]:
            raise PermeationError(f"{path}: {name}.accepts: accepted: one of {', '.join(RULES)}")
    return claims


def claims_of(claims: Mapping[str, Any], files: Collection[str]) -> dict[str, Any]:
    """Those that are checked by a figure in one of these metrics files."""
    return {name: claim for name, claim in claims.items() if str(claim["metric"]).partition(".")[0] in files}


def check_claims(metrics: Metrics, claims: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per claim: published, found, low, high, null and verdict, in the order of the claims.

    found, low, high and null are numbers, shares of `per` where a claim has it; of a mapping found is its smallest and
    largest value as a list, and low and high the ends of these two's intervals. Of the first count that meets a bound
    (`first`) the interval is what lies between the counts that were tried.
    """
    return {name: _check(metrics, claim) for name, claim in claims.items()}


def table_of_claims(claims: Metrics) -> Section:
    """The table that every report begins with."""
    verdicts = [claim["verdict"] for claim in claims.values()]
    measured = len(verdicts) - verdicts.count("not_measurable")
    return Section(
        "Do the published claims hold?",
        [
            f"Of {len(verdicts)} published claims {measured} can be checked in this run: {verdicts.count('holds')} "
            f"hold, {verdicts.count('null_too')} hold and so does the null model, {verdicts.count('fails')} do not "
            "hold.",
            "A claim holds where the 95 % interval of what was found, or the figure itself where it has none, meets "
            "what was published; data/published.yaml says what that is, and of which model it was said.",
        ],
        ("claim", "published", "found", "null", "verdict"),
        [
            (name.replace("_", " "), claim["published"], _found(claim), _number(claim["null"]), label(claim["verdict"]))
            for name, claim in claims.items()
        ],
    )


def _found(claim: Mapping[str, Any]) -> str:
    if isinstance(claim["found"], list):
        return " to ".join(map(_number, claim["found"]))
    interval = "" if claim["low"] is None else f" [{_number(claim['low'])}, {_number(claim['high'])}]"
    return _number(claim["found"]) + interval


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _check(metrics: Metrics, claim: Mapping[str, Any]) -> dict[str, Any]:
    ((rule, value),) = claim["accepts"].items()
    accepted = Accepted.of(rule, value)
    found = _figures(metrics, claim, ("metric", "low", "high"))
    null = _figures(metrics, claim, ("null_model", "null_low", "null_high"))
    met, null_met = (
        bool(figures) and all(accepted.meets(low, high) for _, low, high in figures) for figures in (found, null)
    )
    least, most = (min(found), max(found)) if found else ((None,) * 3, (None,) * 3)
    return {
        "published": claim["figure"],
        "found": least[0] if len(found) < 2 else [least[0], most[0]],
        "low": least[1] if "first" in claim or _look_up(metrics, claim.get("low")) is not None else None,
        "high": most[2] if "first" in claim or _look_up(metrics, claim.get("high")) is not None else None,
        "null": null[0][0] if null else None,
        "verdict": ("null_too" if null_met else "holds") if met else ("fails" if found else "not_measurable"),
    }


def _figures(metrics: Metrics, claim: Mapping[str, Any], keys: Any) -> list[tuple[float, float, float]]:
    """The figure and the ends of its interval, of a mapping its smallest and its largest; none where not measured."""
    figure, low, high = (_look_up(metrics, claim.get(key)) for key in keys)
    if figure is None or (size := _look_up(metrics, claim["per"]) if "per" in claim else 1) is None:
        return []
    if isinstance(figure, Mapping):  # of a list some entries may be more than the model has
        figure = {key: value for key, value in figure.items() if value is not None}
    if "first" in claim:
        counts = _look_up(metrics, claim["first"]["counts"]) or {}
        within = {counts[asked]: ratio for asked, ratio in figure.items() if asked in counts}
        return _first(within, claim["first"]["at_most"], size)
    if not isinstance(figure, Mapping):
        figure, low, high = ({None: each} for each in (figure, low, high))
    found = []
    for key in dict.fromkeys(choose(figure, key=figure.__getitem__) for choose in (min, max)):
        value = figure[key]
        bounds = [each[key] for each in (low, high) if each is not None and each.get(key) is not None]
        found.append((value / size, min([value, *bounds]) / size, max([value, *bounds]) / size))
    return found


def _first(ratios: Mapping[int, float], most: float, size: int) -> list[tuple[float, float, float]]:
    """The first count whose ratio is at most so much, as a share of `size`, and as its interval what lies behind the
    last count below that is not enough; none where no count is.
    """
    if (first := min((count for count, ratio in ratios.items() if ratio <= most), default=None)) is None:
        return []
    behind = 1 + max((count for count in ratios if count < first), default=0)
    return [(first / size, behind / size, first / size)]


def _look_up(metrics: Metrics, path: str | None) -> Any:
    """The value that a dotted path names, or None where a part of it is missing."""
    value: Any = metrics if path else None
    for part in (path or "").split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = ((("claims",), table_of_claims),)

"""The table of claims: one rule for all verdicts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from permeation.frame.errors import PermeationError
from permeation.report.claims import check_claims, read_claims, table_of_claims
from tests.conftest import PROJECT

SHIPPED = read_claims(PROJECT / "data" / "published.yaml")
METRICS = {
    "g": {
        "figure": 0.5,
        "low": 0.4,
        "high": 0.6,
        "null": 0.1,
        "null_low": 0.05,
        "null_high": 0.45,
        "each": {"a": 1, "b": 4},
    },
    "pca": {"n_heads": 100, "count": 30},
    "perplexity": {
        "ratio": {"8": 3.0, "10%": 1.09, "32": 1.05, "64": 1.01, "all": 1.0},
        "components": {"8": 8, "10%": 10, "32": 32, "64": 64, "all": 100},
    },
}


def verdict(**claim: Any) -> dict[str, Any]:
    whole = {"claim": "c", "figure": "f", "source": "s", "model": "m", **claim}
    return check_claims(METRICS, {"it": whole})["it"]


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        ({"about": 0.5}, "holds"),
        ({"about": 0.6}, "fails"),
        ({"at_least": 0.5}, "holds"),
        ({"above": 0.5}, "fails"),
        ({"at_most": 0.5}, "holds"),
        ({"at_most": 0.4}, "fails"),
        ({"between": [0.1, 0.49]}, "fails"),
        ({"between": [0.1, 0.5]}, "holds"),
    ],
)
def test_a_figure_without_interval_lies_in_what_is_accepted(accepts: Any, expected: str) -> None:
    found = verdict(metric="g.figure", accepts=accepts)
    assert found == {"published": "f", "found": 0.5, "low": None, "high": None, "null": None, "verdict": expected}


def test_an_interval_overlaps_with_what_is_accepted() -> None:
    interval = {"metric": "g.figure", "low": "g.low", "high": "g.high"}
    assert verdict(**interval, accepts={"about": 0.65})["verdict"] == "holds"  # 0.585 to 0.715
    assert verdict(**interval, accepts={"above": 0.6})["verdict"] == "fails"
    assert verdict(**interval, accepts={"at_least": 0.6})["verdict"] == "holds"


def test_an_interval_reaches_its_estimate() -> None:
    found = verdict(metric="g.high", low="g.low", high="g.figure", accepts={"above": 0.55})
    assert (found["found"], found["low"], found["high"], found["verdict"]) == (0.6, 0.4, 0.6, "holds")


def test_what_the_null_model_meets_as_well_says_nothing() -> None:
    null = {"null_model": "g.null", "null_low": "g.null_low", "null_high": "g.null_high"}
    found = verdict(metric="g.figure", **null, accepts={"at_least": 0.4})
    assert (found["null"], found["verdict"]) == (0.1, "null_too")
    assert verdict(metric="g.figure", **null, accepts={"at_least": 0.47})["verdict"] == "holds"
    assert verdict(metric="g.null", **null, accepts={"at_least": 0.3})["verdict"] == "fails"


@pytest.mark.parametrize(
    "claim", [{"metric": None}, {"metric": "g.unknown"}, {"metric": "pca.count", "per": "g.unknown"}]
)
def test_what_was_not_measured_has_no_verdict(claim: dict[str, Any]) -> None:
    found = verdict(**claim, accepts={"above": 0})
    assert (found["found"], found["verdict"]) == (None, "not_measurable")


def test_of_a_mapping_each_value_counts() -> None:
    assert verdict(metric="g.each", accepts={"between": [1, 4]}) == verdict(metric="g.each", accepts={"at_most": 4})
    assert verdict(metric="g.each", accepts={"between": [2, 4]})["verdict"] == "fails"
    assert verdict(metric="g.each", accepts={"at_most": 4})["found"] == [1, 4]


def test_counts_are_shares_of_a_models_size() -> None:
    assert verdict(metric="pca.count", per="pca.n_heads", accepts={"about": 0.3})["found"] == 0.3


def test_the_first_count_within_a_ratio() -> None:
    found = {"metric": "perplexity.ratio", "per": "pca.n_heads", "accepts": {"about": 0.3}}
    within = verdict(**found, first={"at_most": 1.07, "counts": "perplexity.components"})
    assert (within["low"], within["found"], within["high"], within["verdict"]) == (0.11, 0.32, 0.32, "holds")
    none = verdict(**found, first={"at_most": 0.5, "counts": "perplexity.components"})
    assert (none["found"], none["low"], none["verdict"]) == (None, None, "not_measurable")


def test_the_shipped_claims_are_judged_whatever_was_measured() -> None:
    assert {each["verdict"] for each in check_claims({}, SHIPPED).values()} == {"not_measurable"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accepts": {"near": 1}}, r"alpha.accepts: accepted: one of about, at_least"),
        ({"accepts": {"about": 1, "above": 0}}, "alpha.accepts"),
        ({"colour": "red"}, "alpha: accepted: a mapping with claim"),
    ],
)
def test_a_broken_claim_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump({"alpha": SHIPPED["alpha"] | change}))
    with pytest.raises(PermeationError, match=message):
        read_claims(path)


def test_the_table_counts_its_verdicts() -> None:
    claims = check_claims({"g": {"alpha": 0.9, "f_max": {"a": 0.3, "b": 0.9}}}, SHIPPED)
    section = table_of_claims(claims)
    assert (
        "Of 19 published claims 2 can be checked in this run: 1 hold, 0 hold and so does the null model, 1 do not hold."
        in (" ".join(section.findings[0].split()))
    )
    rows = {name: cells for name, *cells in section.rows}
    assert rows["alpha"] == ["0.9", "0.9", "–", "holds"]
    assert rows["f max"] == ["0.30 to 0.79", "0.3 to 0.9", "–", "does not hold"]

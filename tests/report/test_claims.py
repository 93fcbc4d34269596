"""The table of claims: one rule for all verdicts."""

from typing import Any

import pytest
import yaml

from permeation.report.claims import check, read_claims, sections
from tests.support.project import PROJECT

SHIPPED: dict[str, Any] = yaml.safe_load((PROJECT / "data" / "published.yaml").read_text())
METRICS = {
    "g": {"figure": 0.5, "low": 0.4, "high": 0.6, "p": 0.01}
    | {"null": 0.1, "null_low": 0.05, "null_high": 0.45}
    | {"each": {"a": 1, "b": 4, "c": None}, "each_low": {"a": 0.5, "b": 3.5}, "each_high": {"a": 1.5, "b": 4.5}},
    "pca": {"n_heads": 100, "count": 30},
}
INTERVAL = {"metric": "g.figure", "low": "g.low", "high": "g.high"}
EACH = {"metric": "g.each", "low": "g.each_low", "high": "g.each_high"}


def record(model: str = "all", **claim: Any) -> dict[str, Any]:
    return check({"claim": "c", "published": "f", "model": model, **claim}, METRICS, "small").record()


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        ({"about": 0.5}, "holds"),
        ({"about": 0.6}, "fails"),
        ({"at_least": 0.5}, "holds"),
        ({"at_most": 0.5}, "holds"),
        ({"at_most": 0.4}, "fails"),
        ({"between": [0.1, 0.49]}, "fails"),
        ({"between": [0.1, 0.5]}, "holds"),
    ],
)
def test_a_figure_without_interval_lies_in_what_is_accepted(accepts: Any, expected: str) -> None:
    found = record(metric="g.figure", accepts=accepts)
    assert found == {"published": "f", "found": 0.5, "low": None, "high": None, "null": None, "verdict": expected}


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [({"at_least": 0.4}, "holds"), ({"at_least": 0.5}, "not_told_apart"), ({"at_least": 0.61}, "fails")],
)
def test_all_of_an_interval_counts(accepts: Any, expected: str) -> None:
    found = record(**INTERVAL, accepts=accepts)
    assert (found["low"], found["high"], found["verdict"]) == (0.4, 0.6, expected)


def test_an_interval_reaches_its_estimate() -> None:
    found = record(metric="g.high", low="g.low", high="g.figure", accepts={"at_most": 0.6})
    assert (found["found"], found["low"], found["high"], found["verdict"]) == (0.6, 0.4, 0.6, "holds")


def test_a_claim_that_the_null_model_meets_as_well_says_nothing() -> None:
    null = {"null_model": "g.null", "null_low": "g.null_low", "null_high": "g.null_high"}
    assert record(**INTERVAL, **null, accepts={"at_least": 0.4})["verdict"] == "null_too"
    assert record(metric="g.figure", **null, accepts={"at_least": 0.46})["verdict"] == "holds"
    assert record(metric="g.null", **null, accepts={"at_least": 0.3})["verdict"] == "fails"


def test_a_small_p_rejects_and_a_large_one_shows_nothing() -> None:
    assert record(metric="g.p", accepts={"not_rejected": 0.05})["verdict"] == "fails"
    assert record(metric="g.figure", accepts={"not_rejected": 0.05})["verdict"] == "not_told_apart"


def test_values_are_apart_where_their_intervals_are() -> None:
    assert record(**EACH, accepts={"apart": True})["verdict"] == "holds"
    wide = EACH | {"high": "g.each_low", "low": "g.each_low", "metric": "g.each_low"}
    assert record(**wide, accepts={"apart": True})["verdict"] == "holds"
    assert record(**(EACH | {"low": "g.low_of_none"}), accepts={"apart": True})["found"] == [1, 4]
    assert record(metric="g.figure", accepts={"apart": True})["verdict"] == "not_measured"


def test_of_a_mapping_the_smallest_and_the_largest_count() -> None:
    assert record(metric="g.each", accepts={"between": [1, 4]})["verdict"] == "holds"
    assert record(metric="g.each", accepts={"between": [2, 4]})["verdict"] == "fails"
    found = record(**EACH, accepts={"between": [1, 4]})
    assert (found["found"], found["low"], found["high"]) == ([1, 4], 0.5, 4.5)
    assert found["verdict"] == "not_told_apart"


def test_counts_are_shares_of_a_models_size() -> None:
    assert record(metric="pca.count", per="pca.n_heads", accepts={"about": 0.3})["found"] == 0.3


@pytest.mark.parametrize(
    "claim", [{"metric": None}, {"metric": "g.unknown"}, {"metric": "pca.count", "per": "g.unknown"}]
)
def test_what_was_not_measured_has_no_verdict(claim: dict[str, Any]) -> None:
    found = record(**claim, accepts={"at_least": 0})
    assert (found["found"], found["verdict"]) == (None, "not_measured")


def test_a_figure_of_other_models_is_not_judged() -> None:
    assert record("gpt2, gpt2-medium", metric="g.figure", accepts={"about": 0.5})["verdict"] is None
    assert record("gpt2, small", metric="g.figure", accepts={"about": 0.5})["verdict"] == "holds"


def test_the_shipped_claims_are_in_two_groups() -> None:
    metrics = {"g": {"reliability": {"p": 0.0005}, "alpha": 0.9}, "sigma": {"collapse_variance": 1.2}}
    general, special = sections(read_claims(PROJECT, metrics, "small").values())
    said = "No: of 10 claims that are meant for all models: fails 1, holds 1, not measured 8."
    assert general.findings[0].startswith(said)
    assert [row[-1] for row in general.table[1:4]] == ["fails", "holds", "not measured"]
    assert special.findings[0].startswith("Open: ")
    assert special.table[0] == ("figure", "GPT-2", "found", "null", "verdict")
    assert {row[-1] for row in special.table[1:]} == {"–"}
    (_, gpt2) = sections(read_claims(PROJECT, metrics, "openai-community/gpt2").values())
    alpha = next(row for row in gpt2.table if "α" in row[0])
    assert alpha[1:] == ("0.9", "0.9", "–", "holds")


def test_every_shipped_claim_is_of_the_documented_form() -> None:
    needed = {"claim", "published", "source", "model", "metric", "accepts"}
    known = needed | {"low", "high", "null_model", "null_low", "null_high", "per"}
    for name, claim in SHIPPED.items():
        assert needed <= set(claim) <= known, name
        assert next(iter(claim["accepts"])) in ("about", "at_least", "at_most", "between", "not_rejected", "apart")

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
ALONE = {"metric": "g.figure"}
INTERVAL = ALONE | {"low": "g.low", "high": "g.high"}
EACH = {"metric": "g.each", "low": "g.each_low", "high": "g.each_high"}
NULL = {"null_model": "g.null", "null_low": "g.null_low", "null_high": "g.null_high"}


def record(model: str = "all", **claim: Any) -> dict[str, Any]:
    return check({"claim": "c", "published": "f", "model": model, **claim}, METRICS, "small").record()


@pytest.mark.parametrize(
    ("claim", "accepts", "expected"),
    [
        (ALONE, {"about": 0.5}, "holds"),
        (ALONE, {"about": 0.6}, "fails"),
        (ALONE, {"at_least": 0.5}, "holds"),
        (ALONE, {"at_most": 0.5}, "holds"),
        (ALONE, {"at_most": 0.4}, "fails"),
        (ALONE, {"between": [0.1, 0.49]}, "fails"),
        (ALONE, {"between": [0.1, 0.5]}, "holds"),
        # All of an interval counts.
        (INTERVAL, {"at_least": 0.4}, "holds"),
        (INTERVAL, {"at_least": 0.5}, "not_told_apart"),
        (INTERVAL, {"at_least": 0.61}, "fails"),
        # A claim that the null model meets as well says nothing.
        (INTERVAL | NULL, {"at_least": 0.4}, "null_too"),
        (ALONE | NULL, {"at_least": 0.46}, "holds"),
        ({"metric": "g.null"} | NULL, {"at_least": 0.3}, "fails"),
        # A small p rejects, and a large one shows nothing.
        ({"metric": "g.p"}, {"not_rejected": 0.05}, "fails"),
        (ALONE, {"not_rejected": 0.05}, "not_told_apart"),
        # Values are apart where their intervals are.
        (EACH, {"apart": True}, "holds"),
        (dict.fromkeys(EACH, "g.each_low"), {"apart": True}, "holds"),
        (ALONE, {"apart": True}, "not_measured"),
        # Of a mapping the smallest and the largest count.
        ({"metric": "g.each"}, {"between": [1, 4]}, "holds"),
        ({"metric": "g.each"}, {"between": [2, 4]}, "fails"),
        (EACH, {"between": [1, 4]}, "not_told_apart"),
        # What was not measured has no verdict.
        ({"metric": None}, {"at_least": 0}, "not_measured"),
        ({"metric": "g.unknown"}, {"at_least": 0}, "not_measured"),
        ({"metric": "pca.count", "per": "g.unknown"}, {"at_least": 0}, "not_measured"),
    ],
)
def test_a_verdict(claim: dict[str, Any], accepts: Any, expected: str) -> None:
    assert record(**claim, accepts=accepts)["verdict"] == expected


def test_a_record_has_the_figure_and_its_interval() -> None:
    keys = ("published", "found", "low", "high", "null")
    for claim, wanted in (
        (ALONE, ("f", 0.5, None, None, None)),
        (INTERVAL | NULL, ("f", 0.5, 0.4, 0.6, 0.1)),
        (EACH, ("f", [1, 4], 0.5, 4.5, None)),
        (EACH | {"low": "g.low_of_none"}, ("f", [1, 4], 1, 4.5, None)),
        ({"metric": "g.unknown"}, ("f", None, None, None, None)),
    ):
        found = record(**claim, accepts={"at_least": 0})
        assert tuple(found[key] for key in keys) == wanted
        assert {*found} == {*keys, "verdict"}


def test_an_interval_reaches_its_estimate() -> None:
    found = record(metric="g.high", low="g.low", high="g.figure", accepts={"at_most": 0.6})
    assert (found["found"], found["low"], found["high"], found["verdict"]) == (0.6, 0.4, 0.6, "holds")


def test_counts_are_shares_of_a_models_size() -> None:
    assert record(metric="pca.count", per="pca.n_heads", accepts={"about": 0.3})["found"] == 0.3


def test_a_figure_of_other_models_is_not_judged() -> None:
    assert record("gpt2, gpt2-medium", metric="g.figure", accepts={"about": 0.5})["verdict"] is None
    assert record("gpt2, small", metric="g.figure", accepts={"about": 0.5})["verdict"] == "holds"


def test_the_shipped_claims_are_in_two_groups() -> None:
    metrics = {"g": {"reliability": {"p": 0.0005}, "alpha": 0.9}, "sigma": {"collapse_variance": 1.2}}
    general, special = sections(read_claims(PROJECT, metrics, "small").values())
    said = "No: of 10 claims that are meant for all models: fails 1; holds 1; not measured 8."
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

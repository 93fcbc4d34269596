"""The sections: what they answer, and how the terminal and Markdown show them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from permeation.report import findings
from permeation.report.findings import answered
from permeation.report.results import Place, Results
from permeation.report.sections import WIDTH, Section, columns, fill, interval, number
from tests.report.conftest import PARAMETERS
from tests.support.project import PROJECT

Metrics = Callable[..., dict[str, Any]]


def first(section: Section) -> str:
    return section.findings[0]


def test_every_section_is_there_and_begins_with_an_answer(results: Results) -> None:
    found = findings.sections(PROJECT, results)
    assert len(found) == len(findings.QUESTIONS) + 2
    for section in found:
        assert section.title.endswith("?")
        assert first(section).split(":")[0] in ("Yes", "No", "Open")


def test_the_text_fits_a_terminal_and_says_what_markdown_says(results: Results) -> None:
    text, markdown = (say(PROJECT, results) for say in (findings.summary, findings.markdown))
    assert max(map(len, text.splitlines())) <= WIDTH
    for section in findings.sections(PROJECT, results):
        assert f"## {section.title}" in markdown
        for said in section.findings:
            assert said in markdown
            assert said in " ".join(text.split())


def test_an_axis_without_results_is_left_out_and_said(run: Path) -> None:
    for name in ("weights_run", "heads_run"):
        (run / "metrics" / f"{name}.json").unlink()
    read = (Results.read(Place("run", run), parameters) for parameters in (PARAMETERS, None))
    said, elsewhere = (findings.summary(PROJECT, each) for each in read)
    assert "No results of weights" in said
    assert "dvc repro report_weights" in said
    assert "dvc repro report" not in elsewhere
    assert "heads/dvc.yaml" not in said  # on demand
    assert "DO THE HEADS SHARE A SMALL SUBSPACE?" not in said


def test_figures_stand_beside_the_null_model_of_their_h(metrics: Metrics) -> None:
    """Whatever response.field is, no figure of one h is compared with the null model or the p of another."""
    ranked = metrics(g={"word_correlation_mean": 0.111, "rank": {"word_correlation_mean": 0.345}})
    said = " ".join(answered("one_curve", ranked).findings)
    assert "With h = rank the words' g correlate by 0.345, with shuffled senses by 0.2 (p = 0.002)." in said
    assert "With h = final they correlate by 0.8," in said
    assert "0.111" not in said


def test_a_share_below_0_is_said_in_words(metrics: Metrics) -> None:
    changed = {"g": {"rank": {"decomposition_r2": -0.17}}, "parameters": {"response": {"field": "rank"}}}
    said = " ".join(answered("one_curve", metrics(**changed)).findings)
    assert "(R² = -0.17): it explains nothing" in said
    assert "explains -17" not in said


def test_a_high_auc_with_a_large_p_is_open_and_explained(metrics: Metrics) -> None:
    found = answered("contexts_pull", metrics(g={"p": {"auc.gradient_own": 0.21}}))
    assert first(found).startswith("Open: ")
    assert "p = 0.21 needs more prompts or words" in found.findings[1]
    assert not any("needs more prompts" in said for said in answered("contexts_pull", metrics()).findings)


@pytest.mark.parametrize(
    ("key", "changed", "answer"),
    [
        ("one_curve", {}, r"No: the words' curves differ: halves .* \(h = rank, p = 0\.0005\); .* 3 in 75 %.*"),
        (
            "one_curve",
            {"g": {"reliability": {"p": 0.3}}},
            r"Open: the words' curves are not told apart: halves .* \(h = rank, p = 0\.3\); .*",
        ),
        ("one_curve", {"g": {"reliability": None}}, r"Open: a word needs another one to be compared with\."),
        ("contexts_pull", {"sigma": {"n_words": 1}}, r"Yes: .* \(of one word, so without an interval; chance .*"),
        (
            "sense_used",
            {},
            r"Yes: .* in the next token, .* the controls, from depth 0\.5 \[0\.3, 0\.6\] on \(median of 2 words\)\.",
        ),
        ("sense_used", {"intervene": {"onset": {"value": None}}}, "No: .*"),
        ("shared_subspace", {"pca": {"components_for_variance": {"90": 24}, "null": {"gram": {"90": 50}}}}, "Yes: .*"),
        ("shared_subspace", {"pca": {"components_for_variance": {"90": 24}, "null": {"gram": {"90": 26}}}}, "No: .*"),
        ("few_components", {}, "Yes: of 3 choices .*"),
        ("few_components", {"perplexity": {"ratio": dict.fromkeys(("1", "8", "99%"))}}, "Open: .*"),
        (
            "few_components",
            {"perplexity": {"ratio": {"8": 2.0}}},
            "No: of 3 choices of K short of all the best, K = 8, multiplies the perplexity by 2;.*",
        ),
        ("few_heads", {}, "Yes: of 24 heads 2 .*"),
        ("few_heads", {"head_roles": {"heads": {"exchange": 0}, "agreement": None}}, "No: of 24 heads 0 .*"),
        ("sense_lost", {"compressed": {"gap": {"least_within_5": {"low": 0.96, "high": 1.0}}}}, "No: .*"),
        ("sense_lost", {"compressed": {"gap": {"least_within_5": {"low": 0.8, "high": 0.9}}}}, "Yes: .*"),
        ("sense_lost", {"compressed": {"gap": {"least_within_5": {"low": 0.9, "high": 1.0}}}}, "Open: .*"),
    ],
)
def test_an_answer_hangs_on_the_figures(metrics: Metrics, key: str, changed: dict[str, Any], answer: str) -> None:
    assert re.fullmatch(answer, first(answered(key, metrics(**changed))))


def test_of_a_table_of_sentences_no_use_is_measured(metrics: Metrics) -> None:
    found = answered("sense_used", {**metrics(), "intervene": {"words": 0}})
    assert first(found) == "Open: no word's senses differ enough in the next token."


def test_a_template_is_filled_or_left_out() -> None:
    figures = {"g": {"x": 0.123456, "x_low": 0.1, "x_high": 0.2, "n": 1234, "law": "two_stage", "some": ["a", "b"]}}
    template = "{g.x} {g.x:i} {g.x:%} {g.n} {g.law} {g.some}"
    assert fill(template, figures) == "0.123 0.123 [0.1, 0.2] 12.3 % 1,234 two stage a, b"
    assert fill("{g.x} {g.y}", figures) is None


def test_numbers_have_three_digits() -> None:
    assert [number(x) for x in (0.12345, 12.345, 12345.6, -0.0, None)] == ["0.123", "12.3", "12,346", "0", "–"]
    assert [number(x) for x in (1.0036, 0.99876, 1.05, 1.2345)] == ["1.004", "0.999", "1.05", "1.23"]
    assert interval(1.2345, 1.0, 2.0) == "1.23 [1, 2]"
    assert interval(1.2345, None, None) == "1.23"


def test_a_long_name_is_wrapped_in_its_column() -> None:
    lines = columns([("name", "x"), ("one word after another " * 8, "1.00")])
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) == 4
    assert lines[1].endswith("1.00")

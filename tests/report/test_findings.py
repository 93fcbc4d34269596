"""The sections: what they answer, and how the terminal and Markdown show them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from permeation.frame.tables import read_json, write_json
from permeation.report import findings
from permeation.report.head_findings import kept_sense, which_heads
from permeation.report.meaning_findings import meaning_of_words, one_curve, what_g_is, when_it_is_used
from permeation.report.results import Place, Results
from permeation.report.sections import WIDTH, Section, columns, interval, number
from permeation.report.weight_findings import rebuilt_heads, where_it_lives
from tests.report.conftest import PARAMETERS
from tests.support.project import PROJECT


def first(section: Section) -> str:
    return section.findings[0]


def test_every_section_is_there_and_begins_with_an_answer(results: Results) -> None:
    found = findings.sections(PROJECT, results)
    assert len(found) == len(findings.SECTIONS) + 2
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
    results = Results.read(Place("run", run), PARAMETERS)
    said = findings.summary(PROJECT, results)
    assert "No results of weights" in said
    assert "dvc repro report_weights" in said
    assert "heads/dvc.yaml" not in said  # on demand
    assert "DO THE HEADS SHARE A SMALL SUBSPACE?" not in said


def test_results_of_other_parameters_are_not_shown(run: Path) -> None:
    changed = PARAMETERS | {"perplexity": PARAMETERS["perplexity"] | {"context": 99}}
    results = Results.read(Place("run", run), changed)
    assert [*results.runs] == ["meaning"]
    assert results.refused["weights"].endswith("params.yaml has another perplexity. Run: dvc repro report_weights")
    assert "perplexity" not in results.metrics


def test_settings_that_change_no_result_are_not_compared(run: Path) -> None:
    assert not Results.read(Place("run", run), PARAMETERS | {"device": "cuda"}).refused


@pytest.mark.parametrize(("p", "answer"), [(0.0005, "No: every word has a curve of its own"), (0.3, "Open: ")])
def test_whether_words_share_a_curve_hangs_on_the_test(metrics: Callable[..., Any], p: float, answer: str) -> None:
    g = metrics("g")["g"]
    assert first(one_curve(g | {"reliability": g["reliability"] | {"p": p}})).startswith(answer)


def test_a_run_of_one_word_says_so(metrics: Callable[..., Any]) -> None:
    g = {key: value for key, value in metrics("g", f_max={"bank": 0.3})["g"].items() if key != "reliability"}
    g |= {"word_correlation_mean": None, "predicted": None}
    assert first(one_curve(g)) == "Open: with 1 word g cannot be compared between words."
    assert first(what_g_is(g)).startswith("Open: 1 word")


def test_prompts_that_weaken_a_result_are_counted(metrics: Callable[..., Any]) -> None:
    files = metrics("sigma", few_direction_prompts=2)
    said = meaning_of_words(files["sigma"], files["g"], files["decode"]).findings[-1]
    assert said.startswith("Of 3 words 2 with fewer than 8 direction prompts")


def test_without_an_onset_the_model_does_not_use_the_sense(metrics: Callable[..., Any]) -> None:
    never = metrics("intervene", onset={"value": None, "low": None, "high": None})["intervene"]
    assert first(when_it_is_used(never)).startswith("No: ")
    assert first(when_it_is_used(never | {"words": 0})).startswith("Open: ")


def test_the_first_k_that_keeps_the_model_is_named(metrics: Callable[..., Any]) -> None:
    table = metrics("perplexity")["perplexity"]
    assert first(rebuilt_heads(table)).startswith("Yes: K = 8 is the first of 3")
    none = table | {"ratio": {"1": 300.0, "all": 1.0}}
    assert "No: of 1 choice" in first(rebuilt_heads(none | dict.fromkeys(("ratio_low", "ratio_high"), none["ratio"])))


def test_where_the_function_is_hangs_on_the_bands(metrics: Callable[..., Any]) -> None:
    table = metrics("perplexity")["perplexity"]
    assert first(where_it_lives(table)).startswith("Yes: ")
    assert first(where_it_lives(table | {"band_ratio": {"1-6": 1.2, "7-12": 40.0}})).startswith("No: ")


def test_heads_that_are_not_told_from_chance_bring_nothing(metrics: Callable[..., Any]) -> None:
    roles = metrics("head_roles")["head_roles"]
    assert first(which_heads(roles)).startswith("Yes: of 24 heads 2")
    none = roles["heads"] | {"exchange": 0}
    assert first(which_heads(roles | {"heads": none, "agreement": None})).startswith("No: of 24 heads 0")


@pytest.mark.parametrize(
    ("low", "high", "answer"), [(0.96, 1.0, "No"), (0.8, 0.9, "Yes"), (0.9, 1.0, "Open")], ids=["kept", "lost", "open"]
)
def test_whether_the_sense_goes_first_hangs_on_the_interval(
    metrics: Callable[..., Any], low: float, high: float, answer: str
) -> None:
    compressed = metrics("compressed")["compressed"]
    gap = compressed["gap"] | {"least_within_5": compressed["gap"]["least_within_5"] | {"low": low, "high": high}}
    assert first(kept_sense(compressed | {"gap": gap})).startswith(f"{answer}: ")


def test_numbers_have_three_digits() -> None:
    assert [number(x) for x in (0.12345, 12.345, 12345.6, -0.0, None)] == ["0.123", "12.3", "12,346", "0", "–"]
    assert interval(1.2345, 1.0, 2.0) == "1.23 [1, 2]"
    assert interval(1.2345, None, None) == "1.23"


def test_a_long_name_is_wrapped_in_its_column() -> None:
    lines = columns(("name", "x"), [("one word after another " * 8, "1.00")])
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) == 4
    assert lines[1].endswith("1.00")


def test_a_folder_that_cannot_be_read_is_named(run: Path) -> None:
    (run / "metrics" / "g.json").write_text("{")
    with pytest.raises(Exception, match=r"metrics/g\.json: cannot be read as JSON"):
        Results.read(Place("run", run), PARAMETERS)


def test_old_results_of_the_heads_are_said_to_be_old(run: Path) -> None:
    path = run / "metrics" / "heads_run.json"
    old = read_json(path)
    write_json(path, old | {"parameters": old["parameters"] | {"seed": 7}})
    results = Results.read(Place("run", run), PARAMETERS)
    assert "another seed. Run: dvc repro heads/dvc.yaml" in results.refused["heads"]

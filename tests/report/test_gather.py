"""What is gathered of an axis: metrics merged and rounded, tables copied, pictures drawn."""

from pathlib import Path
from typing import Any

import pytest

from permeation.frame.tables import read_json
from permeation.report import gather
from permeation.report.axes import AXES, HEADS, MEANING, WEIGHTS, flat, headlines
from permeation.report.gather import parameters_behind, rounded, write_axis
from tests.report.conftest import PARAMETERS
from tests.support.project import PROJECT


def test_four_digits_are_published_and_three_where_single_tokens_decide() -> None:
    found = rounded({"a": [1.23456, 12345.6], "bits_at_1_05": {"int": 4.1234}, "best_bits_low": 4.1234, "tiny": -1e-9})
    assert found == {"a": [1.235, 12350.0], "bits_at_1_05": {"int": 4.12}, "best_bits_low": 4.12, "tiny": 0.0}
    assert "-" not in str(found["tiny"])


@pytest.mark.parametrize("name", AXES)
def test_an_axis_is_written_with_what_it_was_run_with(name: str, reported: Path) -> None:
    axis = AXES[name]
    run = read_json(reported / "metrics" / f"{axis.run}.json")
    assert (run["model"]["name"], run["device"]) == ("small", "cpu")
    assert ("corpus" in run) == (axis is not MEANING)
    known = parameters_behind(axis.stages, PROJECT)
    assert run["parameters"] == {key: value for key, value in PARAMETERS.items() if key in known}
    tables = {path.name for stage in axis.stages for path in (reported / "data" / stage / "plots").glob("*")}
    pictures = {table.replace("json", "png") for table in tables}
    assert {path.name for path in (reported / "plots" / name).iterdir()} == tables | pictures


def test_an_axis_depends_on_the_parameters_of_all_stages_behind_it() -> None:
    meaning = "quick model corpus words seed activations sigma response g bootstrap nulls decode intervene"
    assert parameters_behind(MEANING.stages, PROJECT) == set(meaning.split())
    assert not parameters_behind(WEIGHTS.stages, PROJECT) & {"words", "activations", "sigma", "response", "g"}
    heads = parameters_behind(HEADS.stages, PROJECT)  # a stage on demand, behind it stages of both axes
    assert heads > {"words", "sigma", "corpus", "moments", "pca", "rivals", "heads", "compressed"}
    assert not heads & {"nulls", "decode", "reconstruct", "universal", "device"}


def test_headlines_fit_a_screen_and_are_the_promised_figures(reported: Path) -> None:
    found: dict[str, Any] = {}
    for axis in (MEANING, WEIGHTS):
        found |= flat(read_json(reported / "metrics" / f"{axis.name}.json"))
    assert len(found) <= 30
    assert {"g.reliability.p", "perplexity.ratio.all", "rivals.bits_at_1_05.int", "intervene.onset.value"} <= set(found)


def test_of_a_long_list_a_few_are_headlines() -> None:
    found = headlines(WEIGHTS, {"perplexity": {"ratio": {str(k): k for k in range(100)}}})
    assert found == {"perplexity.ratio.0": 0, "perplexity.ratio.50": 50, "perplexity.ratio.99": 99}


def test_what_was_reported_of_other_words_goes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "plots" / "claims").mkdir()
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(gather, "draw", lambda name, rows: drawn.update({name: rows}))
    write_axis(MEANING, run, PROJECT, lambda stage: run / "data" / stage, PARAMETERS | {"words": "mine.yaml"}, "cpu")
    assert sorted(path.name for path in (run / "plots").iterdir()) == ["meaning", "models", "weights"]
    assert not list((run / "metrics").glob("head*"))
    assert (run / "metrics" / "weights_run.json").is_file()
    assert {row["word"] for row in drawn["sigma"]} == {"zinc", "bank (A = finance)", "alto"}  # the panels' titles

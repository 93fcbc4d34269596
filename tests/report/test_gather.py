"""What is gathered of an axis: metrics merged and rounded, tables copied, pictures drawn."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from permeation.frame.tables import read_json
from permeation.report.axes import AXES, MEANING, WEIGHTS, Axis, flat, headlines
from permeation.report.gather import merged, rounded, versions, write_axis
from tests.report.conftest import PARAMETERS
from tests.support.project import PROJECT


def test_summaries_are_merged_key_by_key() -> None:
    assert merged({"g": {"a": {"x": 1}}}, {"g": {"a": {"y": 2}, "b": 3}}) == {"g": {"a": {"x": 1, "y": 2}, "b": 3}}


def test_four_digits_are_published_and_three_where_single_tokens_decide() -> None:
    found = rounded({"a": [1.23456, 12345.6], "bits_at_1_05": {"int": 4.1234}, "best_bits_low": 4.1234, "tiny": -1e-9})
    assert found == {"a": [1.235, 12350.0], "bits_at_1_05": {"int": 4.12}, "best_bits_low": 4.12, "tiny": 0.0}
    assert "-" not in str(found["tiny"])


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_an_axis_is_written_with_what_it_was_run_with(axis: Axis, reported: Path) -> None:
    run = read_json(reported / "metrics" / f"{axis.run}.json")
    assert run["model"]["name"] == "small"
    assert ("corpus" in run) == (axis is not MEANING)
    assert run["device"] == "cpu"
    assert run["parameters"] == {key: PARAMETERS[key] for key in axis.parameters}
    tables = {path.name for stage in axis.stages for path in (reported / "data" / stage / "plots").glob("*")}
    pictures = {name.replace("json", "png") for name in tables}
    assert {path.name for path in (reported / "plots" / axis.name).iterdir()} == tables | pictures


def test_both_stages_of_a_file_are_in_it(reported: Path) -> None:
    perplexity = read_json(reported / "metrics" / "perplexity.json")
    assert perplexity["baseline"]["perplexity"] == 20.12
    assert perplexity["ratio"]["8"] == 1.02


def test_a_version_is_no_machines() -> None:
    assert versions()["python"].count(".") == 1
    assert not any("+" in version for version in versions().values())


def test_headlines_fit_a_screen_and_are_the_promised_figures(reported: Path) -> None:
    found: dict[str, Any] = {}
    for axis in (MEANING, WEIGHTS):
        found |= flat(read_json(reported / "metrics" / f"{axis.name}.json"))
    assert len(found) <= 30
    assert {"g.reliability.p", "perplexity.ratio.all", "rivals.bits_at_1_05.int", "intervene.onset.value"} <= set(found)


def test_of_a_long_list_a_few_are_headlines() -> None:
    found = headlines(WEIGHTS, {"perplexity": {"ratio": {str(k): k for k in range(100)}}})
    assert found == {"perplexity.ratio.0": 0, "perplexity.ratio.50": 50, "perplexity.ratio.99": 99}


def test_what_was_reported_of_other_words_goes(run: Path) -> None:
    (run / "plots" / "claims").mkdir()
    write_axis(MEANING, run, lambda stage: run / "data" / stage, PARAMETERS | {"words": "mine.yaml"}, "cpu")
    assert sorted(path.name for path in (run / "plots").iterdir()) == ["meaning", "models", "weights"]
    assert not list((run / "metrics").glob("head*"))
    assert (run / "metrics" / "weights_run.json").is_file()


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_an_axis_names_the_parameters_that_its_stages_depend_on(axis: Axis) -> None:
    """Those of its stages in dvc.yaml, and of the stages behind these."""
    stages = {
        name: stage
        for file in ("dvc.yaml", "heads/dvc.yaml", "models/dvc.yaml")
        for name, stage in yaml.safe_load((PROJECT / file).read_text())["stages"].items()
    }
    writer = {out: name for name, stage in stages.items() for out in stage["outs"] if isinstance(out, str)}
    todo, seen = list(axis.stages), set[str]()
    while todo:
        seen.add(name := todo.pop())
        todo += [writer[dep] for dep in stages[name]["deps"] if dep in writer]
    assert {key.split(".")[0] for name in seen for key in stages[name].get("params", [])} | {"quick"} == set(
        axis.parameters
    )

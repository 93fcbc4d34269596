"""What is gathered of an axis: which figures, under which names, and never two under one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from permeation.frame.asked import flat
from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json, write_rows
from permeation.report.axes import AXES, MEANING, WEIGHTS, collect, headlines
from permeation.report.gather import write_axis
from tests.support.sample_tables import sample_metrics, sample_tables

AXIS = replace(WEIGHTS, stages={"one": "g", "other": "g", "base": "g.baseline"}, headlines=("g.x.*", "g.y"))


def test_summaries_stand_side_by_side_under_their_keys() -> None:
    files = collect(AXIS, {"one": {"x": {"a": 1}}, "other": {"y": 2}, "base": {"z": 3, "w": 4}})
    assert files == {"g": {"x": {"a": 1}, "y": 2, "baseline": {"z": 3, "w": 4}}}


@pytest.mark.parametrize("second", [{"x": 2}, {"baseline": 2}])
def test_two_stages_that_write_one_key_are_refused(second: dict[str, Any]) -> None:
    with pytest.raises(PermeationError, match=r"metrics/g.json: both (one|other) and (other|base) write (x|baseline)"):
        collect(AXIS, {"one": {"x": 1}, "other": second, "base": {"z": 3}})


def test_a_long_list_has_few_headlines_spread_over_it() -> None:
    found = headlines(AXIS, {"g": {"x": {str(k): k for k in range(100)}}})  # y was not measured
    assert found == {"1_g": {"x": {"0": 0, "25": 25, "50": 50, "74": 74, "99": 99}}}


def test_what_dvc_metrics_diff_prints_fits_a_screen() -> None:
    """All headlines of a run, were each of them another one's; and they are the promised figures."""
    metrics = sample_metrics()
    found: dict[str, Any] = {}
    for axis in AXES:
        found |= flat(headlines(axis, metrics))
    assert len(found) <= 58  # a heading, and one line between the two files
    assert {"2_g.word_correlation_mean", "2_g.rank.null_correlation_mean", "2_perplexity.ratio.8"} <= set(found)


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, Path]:
    """What the stages of an axis of two wrote."""
    folders = {name: tmp_path / "data" / name for name in ("compute_sigma", "fit_g", "model")}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        write_json(folder / "summary.json", {name: 1})
    write_json(folders["model"] / "model.json", {"name": "small"})
    write_rows(folders["fit_g"] / "plots" / "g.json", sample_tables(0)["g"])
    return folders


SMALL = replace(MEANING, stages={"compute_sigma": "sigma", "fit_g": "g"}, headlines=("g.fit_g",))


def test_an_axis_is_written_with_what_it_was_run_with(outputs: dict[str, Path], tmp_path: Path) -> None:
    write_axis(SMALL, tmp_path, outputs, {"seed": 7})
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "metrics").iterdir()}
    assert written.pop("meaning_run").items() >= {"model": {"name": "small"}, "parameters": {"seed": 7}}.items()
    assert written == {"sigma": {"compute_sigma": 1}, "g": {"fit_g": 1}, "meaning": {"1_g": {"fit_g": 1}}}
    assert {path.name for path in (tmp_path / "plots" / "meaning").iterdir()} == {"g.json", "g.png"}


def test_a_report_that_fails_leaves_what_was_there(outputs: dict[str, Path], tmp_path: Path) -> None:
    write_axis(SMALL, tmp_path, outputs, {"seed": 7})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_rows(table := outputs["compute_sigma"] / "plots" / "g.json", sample_tables(0)["g"])
    with pytest.raises(PermeationError, match=r"plots/meaning/g.json: two stages write it, the second is fit_g"):
        write_axis(SMALL, tmp_path, outputs, {"seed": 8})
    table.unlink()
    write_rows(outputs["fit_g"] / "plots" / "g.json", [{"no": "such columns"}])
    with pytest.raises(KeyError):
        write_axis(SMALL, tmp_path, outputs, {"seed": 8})
    assert {path: path.read_bytes() for path in before if "data" not in path.parts} == {
        path: content for path, content in before.items() if "data" not in path.parts
    }

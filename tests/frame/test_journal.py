"""What a long stage has measured is kept, and only what is whole and current is believed."""

from pathlib import Path

import pytest

from permeation.frame.journal import Journal
from permeation.settings import Config
from permeation.stage import Stage

VALUE = {"ratio": 1.0000000000000002, "name": "σ", "none": None}


def never() -> None:
    raise AssertionError("measured again")


def test_a_value_is_measured_once_and_known_to_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "stage.jsonl"
    journal = Journal(path, "base")
    assert journal.remember(lambda: VALUE, {"k": 3}) == VALUE
    assert journal.remember(never, {"k": 3}) == VALUE
    assert journal.recall({"k": 4}) is None
    assert Journal(path, "base").remember(never, {"k": 3}) == VALUE
    assert Journal(path, "another").recall({"k": 3}) is None


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_line_that_a_kill_cut_off_is_measured_again_and_costs_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "stage.jsonl"
    for k in (1, 2):
        Journal(path, "base").keep({"k": k}, VALUE)
    path.write_bytes(path.read_bytes()[:-cut])
    assert Journal(path, "base").recall({"k": 2}) is None
    Journal(path, "base").keep({"k": 3}, 3)
    assert [Journal(path, "base").recall({"k": k}) for k in (1, 3)] == [VALUE, 3]
    assert len(path.read_text().splitlines()) == 2  # a line each, and none empty


@pytest.mark.parametrize("changed", ["stages/pca.py", "data/in/weights"])
def test_entries_are_of_the_stages_script_its_inputs_and_settings(tmp_path: Path, config: Config, changed: str) -> None:
    for name in ("stages/pca.py", "data/in/weights"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("short")
    stage = Stage("pca", config, tmp_path, tmp_path)
    before = stage.journal(tmp_path / "data" / "in", settings=1).base
    assert stage.journal(tmp_path / "data" / "in", settings=1).base == before
    assert stage.journal(tmp_path / "data" / "in", settings=2).base != before
    (tmp_path / changed).write_text("longer")
    assert stage.journal(tmp_path / "data" / "in", settings=1).base != before

"""What a long stage has measured is kept, and only what is whole and current is believed."""

from pathlib import Path

import pytest

from permeation.config import Config
from permeation.frame.journal import Journal, fingerprint
from stages import Stage


def once(value: dict[str, object], calls: list[int]) -> object:
    def measure() -> dict[str, object]:
        calls.append(1)
        return value

    return measure


def test_a_value_is_measured_once(tmp_path: Path) -> None:
    journal, calls = Journal(tmp_path / "journal", "base"), []
    value = {"ratio": 1.0000000000000002, "name": "σ", "none": None}
    assert journal.remember(once(value, calls), {"k": 3}) == value
    assert journal.remember(once({}, calls), {"k": 3}) == value
    assert len(calls) == 1
    assert journal.remember(once({"other": 1}, calls), {"k": 4}) == {"other": 1}
    assert Journal(journal.folder, "another base").remember(once({"new": 1}, calls), {"k": 3}) == {"new": 1}
    assert len(calls) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("1.5", "2.5"),
        lambda _: "[]",
        lambda text: text.replace("identity", "identification"),
        lambda text: text.replace("base", "basis"),
    ],
)
def test_a_damaged_entry_is_measured_again(tmp_path: Path, damage: object) -> None:
    journal, calls = Journal(tmp_path, "base"), []
    journal.remember(once({"ratio": 1.5}, calls), {"k": 3})
    (entry,) = tmp_path.iterdir()
    entry.write_text(damage(entry.read_text()))
    assert journal.remember(once({"ratio": 1.5}, calls), {"k": 3}) == {"ratio": 1.5}
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_a_value_that_cannot_be_kept_is_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    assert Journal(tmp_path / "file", "base").remember(lambda: {"ratio": 1.5}, {"k": 3}) == {"ratio": 1.5}
    (line,) = capsys.readouterr().err.splitlines()
    assert "{'k': 3}" in line
    assert str(tmp_path / "file") in line


def test_two_processes_may_keep_the_same_entry(tmp_path: Path) -> None:
    journal, calls = Journal(tmp_path, "base"), []

    def measure() -> dict[str, object]:
        journal.remember(once({"ratio": 1.5}, calls), {"k": 3})  # the other one is faster
        return {"ratio": 1.5}

    assert journal.remember(measure, {"k": 3}) == {"ratio": 1.5}
    assert journal.remember(once({}, calls), {"k": 3}) == {"ratio": 1.5}
    assert len(calls) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_measurement_that_fails_leaves_no_entry(tmp_path: Path) -> None:
    def fail() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Journal(tmp_path, "base").remember(fail, {"k": 3})
    assert list(tmp_path.iterdir()) == []


def test_entries_are_of_the_stages_own_script_and_of_its_inputs(tmp_path: Path, config: Config) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {locate: {deps: [data/model, stages/locate.py]}}")
    script = tmp_path / "stages" / "locate.py"
    stage = Stage("locate", config, tmp_path, tmp_path)
    bases = []
    for code, data in (("1", "1"), ("2", "1"), ("2", "2")):
        script.write_text(code)
        with stage.output("model") as folder:
            (folder / "weights").write_text(data)
        bases.append(stage.journal(tmp_path / "data" / "model", settings=None).base)
    assert len(set(bases)) == 3
    assert stage.journal(tmp_path / "data" / "model", settings=None).base == bases[-1]


def test_the_fingerprint_is_of_every_input_and_setting(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    first = fingerprint([file], 1)
    assert fingerprint([file], 1) == first
    assert fingerprint([file], 2) != first
    file.write_text("two")
    assert fingerprint([file], 1) != first

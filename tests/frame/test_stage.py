"""What a stage is given, and how it ends."""

import importlib
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from permeation.frame.errors import PermeationError
from permeation.settings import Config
from permeation.stage import Stage, run
from tests.conftest import PROJECT
from tests.support.project import PROGRAMS


def test_an_input_that_is_missing_is_named(config: Config, tmp_path: Path) -> None:
    with pytest.raises(PermeationError, match=r"extract_wqk is missing; the stage that writes it has to run first"):
        Stage("pca", config, PROJECT, tmp_path).input("extract_wqk")


def test_data_of_another_model_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "data" / "model").mkdir(parents=True)
    (tmp_path / "data" / "model" / "model.json").write_text(json.dumps({"name": config.model}))
    assert Stage("extract_wqk", config, PROJECT, tmp_path).input("model") == tmp_path / "data" / "model"
    with pytest.raises(PermeationError, match=r"holds smollm2-135m, and model is other; run the stage fetch_model"):
        Stage("extract_wqk", replace(config, model="other"), PROJECT, tmp_path).input("model")


def test_a_relative_path_is_found_from_an_experiment_in_a_temporary_copy(config: Config, tmp_path: Path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1234"
    copy.mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    stage = Stage("fetch_model", config, copy, copy)
    assert stage.place("mine") == str(tmp_path / "mine")
    assert stage.place("org/name") == "org/name"
    assert stage.place(str(tmp_path)) == str(tmp_path)
    assert Stage("fetch_model", config, tmp_path, tmp_path).place("mine") == "mine"


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_explains(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        run(importlib.import_module(f"stages.{PROGRAMS[name][0]}").main, axes=PROGRAMS[name][1:])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--model", "--device", "--output-dir"))


def start(folder: Path, *body: str) -> subprocess.Popen[str]:
    """Run a stage whose `main` is this, under params.yaml as it is shipped."""
    lines = ["import time", "from permeation.stage import run", "def main(stage):", *(f"    {line}" for line in body)]
    (folder / "toy.py").write_text("\n".join([*lines, "run(main)"]))
    command = [sys.executable, str(folder / "toy.py"), "--output-dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT)


def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    process = start(tmp_path, "with stage.output(): stage.input('pca')")
    said = process.communicate()[1]
    assert process.returncode == 1
    assert said.startswith(f"toy: {tmp_path}/data/pca is missing")
    assert said.count("\n") == 1
    assert list((tmp_path / "data").iterdir()) == []


def test_what_the_system_refuses_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder belongs")
    process = start(tmp_path, "with stage.output(): pass")
    said = process.communicate()[1]
    assert process.returncode == 1
    assert said.startswith("toy: [Errno ")
    assert str(tmp_path) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_puts_what_is_half_written_away(tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path, "with stage.output(): print('begun', flush=True); time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert list((tmp_path / "data").iterdir()) == []

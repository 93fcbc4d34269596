"""What a stage is given, and how it ends."""

import importlib
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

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


def call(command: list[str], *more: str) -> NoReturn:
    """Run a stage in this process as `stages/run` does, under the params.yaml of the working directory."""
    script, *arguments = command
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments, *more])
        patch.setattr(signal, "signal", lambda *_: None)
        run(importlib.import_module(f"stages.{script}"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_explains(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        call(PROGRAMS[name], "--help")
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--model", "--device", "--output-dir"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_stage_refuses_a_key_that_is_mistyped(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from `-S +resposne.field=rank`, also where the stage does not depend on that section."""
    shipped = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(f"{shipped}resposne:\n  field: rank\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^\w+: params.yaml: unknown key resposne$"):
        call(PROGRAMS[name])


def start(folder: Path, *body: str) -> subprocess.Popen[str]:
    """Run a stage whose `main` is this, under params.yaml as it is shipped."""
    lines = [
        "import sys",
        "import time",
        "from permeation.stage import run",
        "def main(stage):",
        *(f"    {line}" for line in body),
    ]
    (folder / "toy.py").write_text("\n".join([*lines, "run(sys.modules['__main__'])"]))
    command = [sys.executable, str(folder / "toy.py"), "--output-dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("with stage.output(): stage.input('pca')", "toy: {}/data/pca is missing"),
        ("(stage.root / 'data').touch(); stage.output().__enter__()", "toy: [Errno "),  # what the system refuses
    ],
)
def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path, body: str, said: str) -> None:
    process = start(tmp_path, body)
    printed = process.communicate()[1]
    assert process.returncode == 1
    assert printed.startswith(said.format(tmp_path))
    assert str(tmp_path) in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "data").is_dir() or list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_puts_what_is_half_written_away(tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path, "with stage.output(): print('begun', flush=True); time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert list((tmp_path / "data").iterdir()) == []

"""What a stage is given, and how it ends."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from permeation.frame.errors import PermeationError
from permeation.settings import Config
from permeation.stage import Stage
from tests.conftest import PROJECT


def test_data_of_another_model_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "data" / "model").mkdir(parents=True)
    (tmp_path / "data" / "model" / "model.json").write_text(json.dumps({"name": config.model}))
    assert Stage("extract_wqk", config, PROJECT, tmp_path).input("model") == tmp_path / "data" / "model"
    with pytest.raises(PermeationError, match=r"holds smollm2-135m, and model is other; run the stage fetch_model"):
        Stage("extract_wqk", replace(config, model="other"), PROJECT, tmp_path).input("model")


def start(folder: Path, *body: str) -> subprocess.Popen[str]:
    """Run a stage whose `main` is this, under params.yaml as it is shipped."""
    head = "import sys, time\nfrom permeation.stage import run\ndef main(stage):\n"
    lines = "".join(f"    {line}\n" for line in body)
    (folder / "toy.py").write_text(f"{head}{lines}run('__main__')\n")
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


def test_a_stage_notes_how_long_it_took(tmp_path: Path) -> None:
    start(tmp_path, "time.sleep(0.2)").communicate(timeout=20)
    assert 0.2 <= float((tmp_path / "data" / ".journal" / "toy.seconds").read_text()) < 20


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_puts_what_is_half_written_away(tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path, "with stage.output(): print('begun', flush=True); time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert list((tmp_path / "data").iterdir()) == []

"""The pipeline under DVC in a fresh copy of the project, with a small random model.

Not part of `make test`; .ci/run runs it, and so does `pytest -m end_to_end`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.conftest import PROJECT

pytestmark = pytest.mark.end_to_end
BIN = Path(sys.executable).parent


def call(project: Path, *command: str, check: bool = True) -> str:
    """Run a command of the environment in the project; gives what it printed."""
    home = project.parent / "home"
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "SHELL": "/bin/sh",
    }
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, with two small models, a text, and parameters that fit them; run once."""
    root = tmp_path_factory.mktemp("end_to_end")
    project = root / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file() and not name.startswith(("metrics/", "plots/", "dvc.lock")):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, project / name)
    (root / "home").mkdir()
    (root / "home" / "gitconfig").write_text("[user]\nname = Nobody\nemail = nobody@example.org\n")
    tiny.checkpoint(root / "llama", "llama")
    tiny.checkpoint(root / "gpt2", "gpt2")
    (root / "text.txt").write_text((PROJECT / "data" / "words.yaml").read_text())
    settings = (project / "params.yaml").read_text()
    for old, new in {
        "model: smollm2-135m": f"model: {root / 'llama'}",
        "corpus: wiki-sample": f"corpus: {root / 'text.txt'}",
        "context: 512": "context: 16",
        "max_tokens: 4096": "max_tokens: 128",
        "draws: 200": "draws: 3",
        "tokens: 8192": "tokens: 128",
        "max_tokens: 16384": "max_tokens: 64",
        "    - 16\n    - 32\n    - 64\n": "",
        "    - 16\n    - 32\n": "",
    }.items():
        assert old in settings
        settings = settings.replace(old, new)
    (project / "params.yaml").write_text(settings)
    call(project, "git", "init", "-q")
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "start")
    output = call(project, "dvc", "repro")
    assert len(stages_run(output)) == 18, output
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "first run")
    return project


def test_a_second_run_does_nothing(project: Path) -> None:
    assert "Data and pipelines are up to date" in call(project, "dvc", "repro")
    assert "up to date" in call(project, "dvc", "status")


def test_results_are_committed_and_heavy_outputs_are_not(project: Path) -> None:
    tracked = call(project, "git", "ls-files").splitlines()
    assert "metrics/g.json" in tracked
    assert "plots/g.json" in tracked
    assert [name for name in tracked if name.startswith("data/")] == ["data/words.yaml"]


def test_one_parameter_runs_what_depends_on_it_and_nothing_else(project: Path) -> None:
    output = call(project, "dvc", "exp", "run", "-n", "fewer", "-S", "reconstruct.components=[1,4,all]")
    assert stages_run(output) == ["reconstruct", "report"]
    ratios = json.loads((project / "metrics" / "perplexity.json").read_text())["ratio"]
    assert list(ratios) == ["1", "4", "all"]
    assert "fewer" in call(project, "dvc", "exp", "show", "--csv")
    assert "ratio.4" in call(project, "dvc", "metrics", "diff")
    assert "diff.html" in call(project, "dvc", "plots", "diff", "HEAD", "-o", "diff.html")
    call(project, "git", "checkout", "-q", ".")
    call(project, "dvc", "checkout")


def test_device_is_nobodys_dependency(project: Path) -> None:
    assert stages_run(call(project, "dvc", "repro", "--dry")) == []
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("device: auto", "device: cpu"))
    assert stages_run(call(project, "dvc", "repro")) == []
    call(project, "git", "checkout", "-q", "params.yaml")


def test_going_to_another_model_and_back_recomputes_nothing(project: Path) -> None:
    away = call(project, "dvc", "exp", "run", "-S", f"model={project.parent / 'gpt2'}")
    assert len(stages_run(away)) == 17, away
    assert "fetch_corpus" not in stages_run(away)
    call(project, "git", "checkout", "-q", "params.yaml")
    assert stages_run(call(project, "dvc", "repro")) == ["report"]


def test_an_experiment_in_a_temporary_copy_finds_its_environment(project: Path) -> None:
    output = call(project, "dvc", "exp", "run", "--temp", "-S", "cluster.k=[2]")
    assert stages_run(output) == ["cluster", "report"]


def test_a_clone_shows_metrics_and_plots_without_any_data(project: Path, tmp_path: Path) -> None:
    call(project, "git", "clone", "-q", str(project), str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    (tmp_path / "home").mkdir()
    assert "word_correlation_mean" in call(clone, "dvc", "metrics", "show")
    assert "index.html" in call(clone, "dvc", "plots", "show")
    assert stages_run(call(clone, "dvc", "repro", "--dry", "--allow-missing")) == []


def test_an_error_in_a_parameter_stops_the_pipeline(project: Path) -> None:
    output = call(project, "dvc", "exp", "run", "-S", "cluster.k=[99]", check=False)
    assert "cluster: cluster.k asks for 99; this model has 12 heads" in output
    call(project, "git", "checkout", "-q", ".")
    call(project, "dvc", "checkout", "--force")

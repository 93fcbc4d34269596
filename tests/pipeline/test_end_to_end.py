"""The pipeline under DVC in a fresh copy of the project, with a small random model.

Not part of `make test`; .ci/run runs it, and so does `pytest -m end_to_end`.
"""

import json
from pathlib import Path

import pytest

from tests.support.project import STAGES, call, duplicate, stages_run

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, for these tests to change."""
    return duplicate(finished_project, tmp_path_factory.mktemp("end_to_end"))


def test_a_second_run_does_nothing(project: Path) -> None:
    assert "Data and pipelines are up to date" in call(project, "dvc", "repro")
    assert "up to date" in call(project, "dvc", "status")


def test_results_are_committed_and_heavy_outputs_are_not(project: Path) -> None:
    tracked = call(project, "git", "ls-files").splitlines()
    assert "metrics/g.json" in tracked
    assert "plots/g.json" in tracked
    assert [name for name in tracked if name.startswith("data/")] == [
        "data/published.yaml",
        "data/words-confirm.yaml",
        "data/words.yaml",
    ]


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


def test_going_to_another_model_and_back_recomputes_nothing(project: Path, finished_project: Path) -> None:
    away = call(project, "dvc", "exp", "run", "-S", f"model={finished_project.parent / 'gpt2'}")
    assert len(stages_run(away)) == len(STAGES) - 1, away
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

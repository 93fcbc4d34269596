"""The pipeline under DVC in a fresh copy of the project, with a small random model.

Not part of `make test`; .ci/run runs it, and so does `pytest -m end_to_end`.
"""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from tests.support.project import STAGES, call, duplicate, link_environment, stages_run

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, for these tests to change."""
    return duplicate(finished_project, tmp_path_factory.mktemp("end_to_end"))


def test_a_second_run_does_nothing(project: Path) -> None:
    assert "Data and pipelines are up to date" in call(project, "dvc", "repro")
    assert "up to date" in call(project, "dvc", "status", "dvc.yaml")


def test_results_are_committed_and_heavy_outputs_are_not(project: Path) -> None:
    tracked = call(project, "git", "ls-files").splitlines()
    assert "metrics/g.json" in tracked
    assert "plots/meaning/g.json" in tracked
    assert [name for name in tracked if name.startswith("data/")] == [
        "data/published.yaml",
        "data/words-confirm.yaml",
        "data/words.yaml",
    ]


def test_one_parameter_runs_what_depends_on_it_and_nothing_else(project: Path) -> None:
    output = call(project, "dvc", "exp", "run", "-n", "fewer", "-S", "reconstruct.components=[1,4,all]")
    assert stages_run(output) == ["reconstruct", "report_weights", "report"]
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


def go_back(project: Path) -> None:
    """The documented line; afterwards nothing is left to run."""
    call(project, "make", "-o", ".venv/ready", "back")
    assert stages_run(call(project, "dvc", "repro", "--dry")) == []


def test_going_to_another_model_and_back_recomputes_nothing(project: Path, finished_project: Path) -> None:
    settings = (project / "params.yaml").read_text()
    away = call(project, "dvc", "exp", "run", "-S", f"model={finished_project.parent / 'gpt2'}")
    assert len(stages_run(away)) == len(STAGES) - 1, away
    assert "fetch_corpus" not in stages_run(away)
    diff = call(project, "dvc", "metrics", "diff").splitlines()
    assert 20 < len(diff) <= 60
    go_back(project)
    assert (project / "params.yaml").read_text() == settings  # with its comments


def test_a_model_that_is_not_there_says_the_way_back(project: Path) -> None:
    output = call(project, "dvc", "exp", "run", "-S", "model=no/such", check=False, HF_HUB_OFFLINE="1")
    assert "fetch_model: model is 'no/such'" in output
    assert "To go back to the committed parameters and their results: make back" in output
    go_back(project)


def test_one_axis_runs_and_is_shown_without_the_other(project: Path) -> None:
    words = (project / "data" / "words.yaml").read_text()
    (project / "mine.yaml").write_text(words[: words.index("\ncrane:")])
    output = call(project, "make", "-o", ".venv/ready", "meaning", "WORDS=mine.yaml")
    assert set(stages_run(output)) == {
        *("extract_activations", "compute_sigma", "fit_g", "nulls", "decode", "controls", "intervene", "logit_lens"),
        "report_meaning",
    }
    said = call(project, "permeation", "summary")
    assert "words of mine.yaml" in said
    assert "  bank " in said
    assert "  crane " not in said
    assert re.search(r"1_sigma.n_words +9 +2 ", call(project, "dvc", "metrics", "diff"))
    assert re.search(r"n_words +9 +2\n", call(project, "permeation", "compare", "HEAD", "workspace"))
    listed = call(project, "permeation", "experiments")  # DVC gives two words as a name
    (name,) = re.findall(r"^ +([a-z]+-[a-z]+) .* words=mine.yaml$", listed, re.MULTILINE)
    assert "  crane " in call(project, "permeation", "summary", "HEAD")
    go_back(project)
    assert "words=mine.yaml" in call(project, "permeation", "experiments")
    assert "  bank " in call(project, "permeation", "summary", name)


def results(project: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for name in ("metrics", "plots") for path in (project / name).rglob("*.*")}


def test_what_is_old_is_not_shown_as_new_and_a_report_that_fails_loses_nothing(project: Path) -> None:
    before = results(project)
    settings = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(settings.replace("draws: 3", "draws: 4"))
    said = " ".join(call(project, "permeation", "summary").split())
    assert "The meaning axis is not shown" in said
    assert "nulls.draws was 3 and is 4" in said
    assert "WHAT DOES A MODEL WITH REBUILT HEADS LOSE?" in said
    assert "IS THE RESPONSE" not in said
    for stage in ("report", "report_meaning"):
        output = call(project, "dvc", "repro", "--single-item", "--force", stage, check=False)
        assert "nulls.draws was 3 and is 4" in output
        assert results(project) == before
    (project / "params.yaml").write_text(settings)
    call(project, "dvc", "checkout")


@pytest.fixture
def untracked_model(project: Path, finished_project: Path) -> str:
    """A model in the project's folder that git does not know, as a relative path."""
    shutil.copytree(finished_project.parent / "gpt2", project / "data" / "mine", dirs_exist_ok=True)
    return "data/mine"


def test_an_experiment_in_a_temporary_copy_finds_environment_and_files(project: Path, untracked_model: str) -> None:
    output = call(project, "dvc", "exp", "run", "--temp", "-S", f"model={untracked_model}", "extract_wqk")
    assert stages_run(output) == ["fetch_model", "extract_wqk"]


def test_the_queue_works_off_experiments(project: Path, untracked_model: str) -> None:
    queued = call(project, "dvc", "exp", "run", "--queue", "-S", f"model={untracked_model},data/none", "fetch_model")
    assert queued.count("Queued experiment") == 2
    call(project, "dvc", "queue", "start")
    for _ in range(120):
        status = call(project, "dvc", "queue", "status")
        if status.count("Success") + status.count("Failed") == 2 and "0 active, 0 idle" in status:
            break
        time.sleep(1)
    assert status.count("Success") == status.count("Failed") == 1, status


def test_a_stage_runs_in_a_shell_that_nobody_has_heard_of(project: Path, tmp_path: Path) -> None:
    shell = shutil.copy(shutil.which("sh") or "", tmp_path / "unheard_of")
    output = call(project, "dvc", "repro", "--force", "--single-item", "fetch_corpus", SHELL=str(shell))
    assert stages_run(output) == ["fetch_corpus"]


def test_a_clone_shows_metrics_and_plots_without_any_data(project: Path, tmp_path: Path) -> None:
    call(project, "git", "clone", "-q", str(project), str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    (tmp_path / "home").mkdir()
    link_environment(clone)
    assert "word_correlation_mean" in call(clone, "dvc", "metrics", "show")
    assert "index.html" in call(clone, "dvc", "plots", "show")
    assert stages_run(call(clone, "dvc", "repro", "--dry", "--allow-missing")) == []


def test_an_error_in_a_parameter_stops_the_pipeline(project: Path) -> None:
    output = call(project, "dvc", "exp", "run", "-S", "cluster.k=[99]", check=False)
    assert "cluster: cluster.k is [99]; this model has 12 heads" in output
    call(project, "git", "checkout", "-q", ".")
    call(project, "dvc", "checkout", "--force")


def test_a_colleague_computes_nothing(finished_project: Path, tmp_path: Path) -> None:
    """docs/cluster.md, Shared results, with a folder as the remote."""
    mine = duplicate(finished_project, tmp_path)
    call(mine, "dvc", "remote", "add", "--default", "results", str(tmp_path / "shared"))
    call(mine, "git", "add", "-A")
    call(mine, "git", "commit", "-qm", "results")
    call(mine, "dvc", "push")
    colleague = tmp_path / "colleague"
    call(mine, "git", "clone", "-q", str(mine), str(colleague))
    link_environment(colleague)
    call(colleague, "dvc", "pull")
    assert stages_run(call(colleague, "dvc", "repro")) == []
    assert (colleague / "data" / "rivals" / "rows.json").is_file()

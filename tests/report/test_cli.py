"""The commands that read a run's results."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from permeation import cli
from permeation.frame.tables import read_json, write_rows
from permeation.report.results import Place
from tests.support.project import PROJECT
from tests.support.sample_tables import WORDS, sample_tables

Call = Callable[..., str]
FILES = ("params.yaml", "data/published.yaml")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(run: Path) -> Path:
    """A project with results in a commit `first`, other curves in the workspace, and a commit `none` without any."""
    git(run, "init", "-q")
    (run / "data" / "other").mkdir()
    for name in FILES:
        shutil.copy(PROJECT / name, run / name)
    git(run, "add", *FILES)
    git(run, "commit", "-qm", "none")
    git(run, "tag", "none")
    git(run, "add", "metrics", "plots")
    git(run, "commit", "-qm", "first")
    git(run, "tag", "first")
    write_rows(run / "plots" / "meaning" / "g.json", sample_tables(2.0)["g"])
    return run


@pytest.fixture
def permeation(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: str) -> str:
        monkeypatch.chdir(project)
        monkeypatch.setattr("sys.argv", ["permeation", *arguments])
        cli.main()
        return capsys.readouterr().out

    return call


def test_the_summary_of_a_revision(permeation: Call) -> None:
    assert permeation("summary") == permeation("summary", "first")
    assert permeation("summary", "--markdown").startswith("small on text, words of data/words.yaml")


def test_the_page_is_written(permeation: Call, project: Path) -> None:
    assert permeation("page").strip() == (project / "report.html").resolve().as_uri()
    assert (project / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_revisions_that_share_words(permeation: Call) -> None:
    found = json.loads(permeation("compare", "first", "workspace", "--json"))
    assert found["headlines"]["first"]["g.alpha"] == 2.0
    assert [row["word"] for row in found["g"]] == [*WORDS, "mean"]
    assert all(row["rmse"] > 0.05 and row["correlation"] < 0.999 for row in found["g"])
    same = json.loads(permeation("compare", "first", "first", "--json"))["g"]
    assert all(row["rmse"] == 0 and row["correlation"] == pytest.approx(1) for row in same)


def test_the_table_and_the_folder_say_the_same(permeation: Call, project: Path) -> None:
    said = permeation("compare", "first", "workspace", "--output", "found")
    mean = read_json(project / "found" / "compare.json")["g"][-1]
    assert f"first against workspace: correlation of the mean g {mean['correlation']:.3g} [" in said
    assert "g.alpha" in said
    assert (project / "found" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_word_of_ones_own_is_held_against_the_mean_of_the_others(permeation: Call, project: Path) -> None:
    mine = [{**row, "word": "rock"} for row in sample_tables(1.0)["g"] if row["word"] == "bank"]
    write_rows(project / "plots" / "meaning" / "g.json", mine)
    (row,) = json.loads(permeation("compare", "first", "workspace", "--json"))["g"]
    assert (row["first"], row["second"], row["word"], row["inside"]) == ("workspace", "first", "rock", 1.0)
    assert row["correlation"] > 0.99
    said = permeation("compare", "workspace", "first", "--output", "found")
    assert "workspace's rock against the mean of first's words" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "first", "nowhere"), "permeation: 'nowhere' is no revision of this project; accepted: a git"),
        (("summary", "none"), "permeation: none: No results of meaning (metrics/meaning_run.json)"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(permeation: Call, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit) as left:
        permeation(*arguments)
    assert str(left.value).startswith(message)
    assert "\n" not in str(left.value)


def test_results_of_other_parameters_are_named(permeation: Call, project: Path) -> None:
    settings = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(settings.replace("draws: 200", "draws: 300"))
    assert "The results of meaning are not shown: params.yaml has another nulls." in " ".join(
        permeation("summary").split()
    )
    (project / "params.yaml").write_text(settings + "colour: red\n")
    with pytest.raises(SystemExit, match=r"workspace: params\.yaml: unknown key colour"):
        permeation("summary")


def test_a_folder_of_results_needs_no_parameters(permeation: Call, project: Path) -> None:
    for part in ("metrics", "plots"):
        shutil.copytree(project / part, project / "mine" / part)
    assert "small on text" in permeation("summary", "mine")


def test_experiments_say_what_they_varied(permeation: Call, project: Path) -> None:
    settings = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(settings.replace("seed: 0", "seed: 5"))
    git(project, "commit", "-qam", "experiment")
    commit, base = git(project, "rev-parse", "HEAD"), git(project, "rev-parse", "first")
    git(project, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/tried", commit)
    git(project, "reset", "-q", "--hard", "first")
    assert Place.find(project, "tried").commit == commit
    said = permeation("experiments")
    assert "tried: seed=5" in said
    assert "workspace: as committed" in said
    (head, workspace, tried) = said.splitlines()[1:4]
    assert head.split()[1:] == workspace.split()[1:]
    assert tried.split()[1:] == ["–"] * 6


def test_an_environment_of_another_folder_is_refused(permeation: Call, project: Path) -> None:
    (project / "src" / "permeation").mkdir(parents=True)
    with pytest.raises(SystemExit, match="make setup mends that"):
        permeation("summary")

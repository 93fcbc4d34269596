"""The commands that read a run's results."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from permeation import cli
from permeation.frame.tables import write_rows
from permeation.report.results import Place
from tests.support.project import PROJECT
from tests.support.sample_tables import WORDS, sample_tables

Call = Callable[..., str]
FILES = ("params.yaml", "data/published.yaml")
SIGMA = "σ(strong A) − σ(strong B)"


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(run: Path) -> Path:
    """A project with results in a commit `first`, other curves in the workspace, and a commit `none` without any."""
    git(run, "init", "-q")
    for name in FILES:
        shutil.copy(PROJECT / name, run / name)
    git(run, "add", *FILES)
    git(run, "commit", "-qm", "none")
    git(run, "tag", "none")
    git(run, "add", "metrics", "plots")
    git(run, "commit", "-qm", "first")
    git(run, "tag", "first")
    write_rows(run / "plots" / "meaning" / "g.json", [row | {"g": row["g"] ** 2} for row in sample_tables()["g"]])
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


def test_revisions_that_share_words(permeation: Call, project: Path) -> None:
    found = json.loads(permeation("compare", "first", "workspace", "--json"))
    assert found["headlines"]["first"]["g.rank.p_correlation_mean"] == 0.002
    of_g = [row for row in found["curves"] if row["of"] == "g"]
    assert [row["word"] for row in of_g] == [*WORDS, "mean"]
    assert all(row["correlation"] < 0.999 for row in of_g)
    same = [row for row in found["curves"] if row["of"] == SIGMA]
    assert all(row["correlation"] == pytest.approx(1) for row in same)
    said = permeation("compare", "first", "workspace")
    assert f"first against workspace: correlation of the mean g {of_g[-1]['correlation']:.3g} [" in said
    for figure in ("own.auc 0.9 [0.8, 0.95]", "onset.value 0.5 [0.3, 0.6]", "perplexity.ratio.1 300 300"):
        assert figure in " ".join(said.split())
    assert (project / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("beside", [(), WORDS])
def test_an_own_word_is_held_against_the_others(permeation: Call, project: Path, beside: tuple[str, ...]) -> None:
    for name in ("g", "sigma"):
        rows = sample_tables()[name]
        mine = [{**row, "word": "rock"} for row in rows if row["word"] == "bank"]
        mine += [row for row in rows if row["word"] in beside]
        write_rows(project / "plots" / "meaning" / f"{name}.json", mine)
    rows = json.loads(permeation("compare", "first", "workspace", "--json"))["curves"]
    words = ["rock", "mean"] if beside else ["rock"]
    assert [(row["of"], row["word"]) for row in rows] == [(of, word) for of in ("g", SIGMA) for word in words]
    assert all(row["correlation"] > 0.99 for row in rows)
    said = permeation("compare", "workspace", "first")
    assert "workspace against first: correlation of rock's g with the other's mean" in said
    assert "compare.png" in said


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


@pytest.mark.parametrize(("name", "why"), [("params.yaml", ": unknown key colour"), ("metrics/g.json", " is no JSON")])
def test_a_file_that_is_not_accepted_is_named(permeation: Call, project: Path, name: str, why: str) -> None:
    with (project / name).open("a") as file:
        file.write("colour: red\n")
    with pytest.raises(SystemExit, match=re.escape(f"workspace: {name}{why}")):
        permeation("summary")


def test_a_folder_of_results_needs_no_parameters(permeation: Call, project: Path) -> None:
    for part in ("metrics", "plots"):
        shutil.copytree(project / part, project / "mine" / part)
    assert "small on text" in permeation("summary", "mine")


def test_an_experiment_is_found_by_its_name(project: Path) -> None:
    commit, base = git(project, "rev-parse", "none"), git(project, "rev-parse", "first")
    git(project, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/tried", commit)
    assert Place.find(project, "tried").commit == commit

"""The commands that read a run's results: `permeation summary` and `compare`, the page, the plots' page."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from permeation import cli
from permeation.frame.tables import write_json, write_rows
from permeation.report import offline, page
from tests.conftest import PROJECT
from tests.support.sample_tables import WORDS, sample_metrics, sample_tables


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose branch `first` and whose workspace hold different results, and whose root commit holds none."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git(folder, "init", "-q")
    Repo.init(str(folder)).close()
    shutil.copy(PROJECT / "params.yaml", folder)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "none")
    git(folder, "tag", "none")
    for branch, seed in (("first", 0), ("second", 1)):
        git(folder, "checkout", "-qb", branch)
        write_rows(folder / "plots" / "g.json", sample_tables(seed)["g"])
        (folder / "metrics").mkdir(exist_ok=True)
        write_json(folder / "metrics" / "run.json", sample_metrics()["run"])
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", branch)
    return folder


def permeation(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["permeation", *arguments])
    cli.main()


@pytest.mark.usefixtures("run")
def test_a_revision_against_itself_and_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    permeation(monkeypatch, "compare", "workspace", "second", "first", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [(row["first"], row["second"], row["word"]) for row in rows] == [
        (*pair, word)
        for pair in (("workspace", "second"), ("workspace", "first"), ("second", "first"))
        for word in (*WORDS, "mean")
    ]
    assert all(row["rmse"] == 0 and row["correlation"] == pytest.approx(1) for row in rows[:4])
    assert all(row["rmse"] > 0.05 and row["correlation"] < 0.999 for row in rows[4:])


def test_the_table_and_the_folder_say_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    permeation(monkeypatch, "compare", "first", "second", "--output", "found")
    said = capsys.readouterr().out
    assert "first (small)  against  second (small)" in said
    for row in json.loads((run / "found" / "compare.json").read_text()):
        interval = "" if row["rmse_low"] is None else f"  [{row['rmse_low']:.4f}, {row['rmse_high']:.4f}]"
        assert f"{row['rmse']:.4f}{interval}\n" in said
    assert (run / "found" / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        (("first", "nowhere"), "permeation: 'nowhere' is no revision of this project; accepted: a git commit"),
        (("none", "first"), "permeation: none holds no plots/g.json; run the pipeline there first"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, revisions: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        permeation(monkeypatch, "compare", *revisions)
    assert str(left.value).startswith(message)
    assert "\n" not in str(left.value)


def test_revisions_without_a_common_word_are_not_compared(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**row, "word": f"other {row['word']}"} for row in sample_tables(0)["g"]]
    write_rows(run / "plots" / "g.json", rows)
    with pytest.raises(SystemExit, match="permeation: first and workspace have no word in common"):
        permeation(monkeypatch, "compare", "first", "workspace")


@pytest.mark.usefixtures("run")
def test_one_revision_is_a_wrong_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        permeation(monkeypatch, "compare", "first")
    assert left.value.code == 2
    assert "at least two revisions are needed" in capsys.readouterr().err


def test_a_summary_needs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"permeation: metrics/run\.json is missing"):
        permeation(monkeypatch, "summary")
    (tmp_path / "metrics").mkdir()
    for name, metrics in sample_metrics().items():
        write_json(tmp_path / "metrics" / f"{name}.json", metrics)
    permeation(monkeypatch, "summary")
    assert "small" in capsys.readouterr().out


def test_the_page_is_written_where_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PROJECT / "metrics", "metrics")
    page.main()
    assert capsys.readouterr().out == f"{(tmp_path / 'report.html').as_uri()}\n"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    Path("metrics", "provenance.json").unlink()
    with pytest.raises(SystemExit, match=r"report: metrics/provenance\.json is missing"):
        page.main()


def test_the_page_of_the_plots_is_named_in_the_local_configuration(run: Path) -> None:
    offline.main()
    written = (run / ".dvc" / "plots_page.html").read_text(encoding="utf-8")
    assert "{plot_divs}" in written
    assert "http" not in written.split("<style>")[1]
    assert "plots_page.html" in (run / ".dvc" / "config.local").read_text()

"""The commands that read a run's results: `permeation summary` and `compare`, the page, the plots' page."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from permeation import cli
from permeation.frame.tables import write_json, write_rows
from permeation.report import __main__ as page
from permeation.report import offline
from permeation.report.axes import MEANING
from permeation.report.experiments import CONTENT, WIDTH, _short, _varied
from tests.conftest import PROJECT
from tests.support.sample_tables import WORDS, sample_metrics, sample_tables, write_sample_run


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
    shutil.copy(PROJECT / "dvc.yaml", folder)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "none")
    git(folder, "tag", "none")
    for branch, seed in (("first", 0), ("second", 1)):
        git(folder, "checkout", "-qb", branch)
        write_rows(folder / "plots" / "meaning" / "g.json", sample_tables(seed)["g"])
        write_sample_run(folder)
        write_json(folder / "metrics" / "meaning.json", {"2_g": {"word_correlation_mean": 0.5 + seed / 4}})
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
    found = json.loads(capsys.readouterr().out)
    assert found["headlines"]["first"] == {"2_g.word_correlation_mean": 0.5}
    rows = found["g"]
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
    assert re.search(r"2_g.word_correlation_mean +0\.5 +0\.75\n", said)
    for row in json.loads((run / "found" / "compare.json").read_text())["g"]:
        interval = "" if row["rmse_low"] is None else f"  [{row['rmse_low']:.4f}, {row['rmse_high']:.4f}]"
        assert f"{row['rmse']:.4f}{interval}\n" in said
    assert (run / "found" / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        (("first", "nowhere"), "permeation: 'nowhere' is no revision of this project; accepted: a git commit"),
        (("none", "first"), "permeation: none: The meaning axis has no results"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, revisions: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        permeation(monkeypatch, "compare", *revisions)
    assert str(left.value).startswith(message)
    assert "\n" not in str(left.value)


def test_of_revisions_without_a_common_word_the_headlines_are_compared(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "word": f"other {row['word']}"} for row in sample_tables(0)["g"]]
    write_rows(run / "plots" / "meaning" / "g.json", rows)
    permeation(monkeypatch, "compare", "first", "workspace")
    said = capsys.readouterr().out
    assert "first and workspace have no word in common: their g are not compared" in said
    assert "RMSE" not in said


@pytest.mark.usefixtures("run")
def test_one_revision_is_a_wrong_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        permeation(monkeypatch, "compare", "first")
    assert left.value.code == 2
    assert "at least two revisions are needed" in capsys.readouterr().err


def test_results_of_other_parameters_are_not_compared(run: Path, monkeypatch, capsys) -> None:
    """Nor are those of a folder that agree with nothing but themselves refused."""
    settings = (run / "params.yaml").read_text()
    (run / "params.yaml").write_text(settings.replace("draws: 200", "draws: 300"))
    permeation(monkeypatch, "compare", "first", "workspace")
    said = capsys.readouterr().out
    assert "workspace: The meaning axis is not shown" in said
    assert "nulls.draws was 200 and is 300" in said
    assert "against" not in said
    shutil.copytree(run / "metrics", run / "elsewhere" / "metrics")
    shutil.copytree(run / "plots", run / "elsewhere" / "plots")
    permeation(monkeypatch, "compare", "first", "elsewhere")
    assert "first (small)  against  elsewhere (small)" in capsys.readouterr().out


def test_experiments_stand_beside_what_they_varied(run: Path, monkeypatch, capsys) -> None:
    git(run, "update-ref", f"refs/exps/ab/{'c' * 38}/named", "first")
    settings = (run / "params.yaml").read_text()
    changed = settings.replace("draws: 200", "draws: 300").replace("seed: 0", "seed: 1").replace("    - 2\n", "")
    (run / "params.yaml").write_text(changed)
    permeation(monkeypatch, "experiments")
    head, committed, workspace, more, named = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "experiment"
    assert committed.endswith("as committed")
    assert "0.8" in committed
    assert "seed=1" in workspace + more
    assert "nulls.draws=300" in workspace + more
    assert "reconstruct.components=[1,3," in workspace + more
    assert workspace.split()[1] == "–"
    assert re.match(r" +named +0\.8 .* as committed$", named)
    (run / "params.yaml").write_text("seed: 0")
    permeation(monkeypatch, "experiments")
    *_, failed, _ = capsys.readouterr().out.splitlines()
    assert re.match(r" +workspace +–.* – +params.yaml: model is missing", failed)
    assert len(failed) <= len(committed.removesuffix("as committed")) + WIDTH


def test_a_reason_without_blanks_is_cut_too() -> None:
    assert _short("word " * 40).endswith("word …")
    assert _short("x" * 200) == f"{'x' * (WIDTH - 2)} …"


def test_a_summary_needs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"no results \(metrics/meaning_run.json\). Run: .venv/bin/dvc repro report_"):
        permeation(monkeypatch, "summary")
    write_sample_run(tmp_path)
    permeation(monkeypatch, "summary")
    assert "small" in capsys.readouterr().out
    (tmp_path / "metrics" / "g.json").write_text("{")
    with pytest.raises(SystemExit, match=r"workspace: metrics/g.json: cannot be read as JSON"):
        permeation(monkeypatch, "summary")


def test_a_terminal_that_has_no_sigma_gets_a_question_mark(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from permeation.cli import main; main()", "summary"],
        cwd=write_sample_run(tmp_path),
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"At the last layer ? follows the order" in done.stdout


def test_axes_of_two_runs_are_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = sample_metrics()
    metrics["weights_run"]["parameters"]["seed"] = 1
    write_sample_run(tmp_path, metrics)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="the two axes are of different runs: seed was 0 and is 1"):
        permeation(monkeypatch, "summary")


def test_an_environment_of_another_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src" / "permeation").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SystemExit, match=r"this environment runs the code in .*, not the one here; make setup mends that$"
    ):
        permeation(monkeypatch, "summary")
    Path(".venv").symlink_to("elsewhere")  # which make takes as it is
    with pytest.raises(SystemExit, match=r"make setup mends that, once the link \.venv is removed$"):
        permeation(monkeypatch, "summary")


def test_the_page_is_written_where_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write_sample_run(tmp_path))
    page.main()
    assert capsys.readouterr().out == f"{(tmp_path / 'report.html').as_uri()}\n"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    shutil.rmtree("metrics")
    with pytest.raises(SystemExit, match=r"report: workspace: The meaning axis has no results"):
        page.main()


def test_the_page_of_the_plots_is_named_in_the_local_configuration(run: Path) -> None:
    offline.main()
    written = (run / ".dvc" / "plots_page.html").read_text(encoding="utf-8")
    assert "{plot_divs}" in written
    assert "http" not in written.split("<style>")[1]
    assert "plots_page.html" in (run / ".dvc" / "config.local").read_text()


def test_runs_without_curves_are_compared_by_their_headlines(run: Path, monkeypatch, capsys) -> None:
    for folder in (run, run / "elsewhere"):
        folder.mkdir(exist_ok=True)
        metrics = {name: found for name, found in sample_metrics().items() if name not in MEANING.files}
        shutil.rmtree(folder / "metrics", ignore_errors=True)
        write_sample_run(folder, {k: v for k, v in metrics.items() if k not in ("meaning", "meaning_run")})
    permeation(monkeypatch, "compare", "workspace", "elsewhere", "--output", "out")
    capsys.readouterr()
    assert not (run / "out" / "compare.png").exists()
    assert (run / "out" / "compare.json").is_file()


def test_other_words_in_the_same_file_are_said() -> None:
    one, other = ({"words": "mine.yaml", CONTENT: digest} for digest in ("1", "2"))
    assert _varied(one, other) == ["(another mine.yaml)"]

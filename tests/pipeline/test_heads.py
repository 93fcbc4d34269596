"""Where both axes meet: the stages that are run on demand, what is shown of them, and under DVC."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from permeation.config import Config
from permeation.frame.asked import asked_of, flat
from permeation.frame.pipeline import ASKED_FOR
from permeation.frame.tables import read_json, read_yaml
from permeation.report.axes import HEADS
from permeation.report.findings import summarise
from permeation.report.page import write_page
from permeation.report.results import Place, Results
from tests.conftest import PROJECT
from tests.support import tiny
from tests.support.project import call, duplicate, stages_run

RunStage = Callable[[str, Config], Path]
NEEDED = (
    *("fetch_model", "fetch_corpus", "extract_activations", "compute_sigma", "fit_g", "nulls", "decode", "controls"),
    *("intervene", "logit_lens", "tokenize_corpus", "baseline", "extract_wqk", "moments", "pca", "reconstruct"),
    *("cluster", "rivals", "locate", "report_meaning", "report_weights", "report"),
)
ON_DEMAND = ("heads", "compressed", "report_heads")
CLAIM = "low_variance"


@pytest.fixture
def small(config: Config, checkpoint: Path, tmp_path: Path) -> Config:
    """A small model, the prompts themselves as the text, and no word too hard for a model that was never trained."""
    text = tmp_path / "text.txt"
    text.write_text((PROJECT / "data" / "words.yaml").read_text().replace("- ", ""))
    intervene = replace(config.intervene, clean_auc=0.3)
    heads = replace(config.heads, pairs=2)
    return replace(config, model=str(checkpoint), corpus=str(text), intervene=intervene, heads=heads)


def test_what_is_run_on_demand_is_shown_where_it_was_run(small: Config, run_stage: RunStage, tmp_path: Path) -> None:
    for name in NEEDED:
        run_stage(name, small)
    place, asked = Place("here", tmp_path), asked_of(PROJECT, small)
    before = Results.read(place, asked)
    assert not before.refused
    assert before.metrics["claims"][CLAIM]["verdict"] == "not_measurable"
    assert "WHICH HEADS BRING THE SENSE?" not in summarise(before)

    for name in ON_DEMAND:
        run_stage(name, small)
    results = Results.read(place, asked)
    assert not results.refused
    roles, compressed = results.metrics["head_roles"], results.metrics["compressed"]
    assert roles["n_heads"] == tiny.LAYERS * tiny.HEADS
    assert set(roles["heads"].values()) <= set(range(roles["n_heads"] + 1))
    assert 0 < compressed["models"] <= 4
    claims = results.metrics["claims"]
    assert claims[CLAIM]["verdict"] != "not_measurable"
    assert {name: claim for name, claim in claims.items() if name != CLAIM} == {
        name: claim for name, claim in before.metrics["claims"].items() if name != CLAIM
    }
    said = summarise(results)
    assert "WHICH HEADS BRING THE SENSE?" in said
    assert "DOES COMPRESSION LOSE THE SENSE BEFORE IT LOSES PERPLEXITY?" in said
    own = said[said.index("WHICH HEADS BRING THE SENSE?") :]
    assert max(map(len, own.splitlines())) <= 80
    page = write_page(results).read_text(encoding="utf-8")
    assert "plots/heads/head_roles.json" in page
    assert "plots/heads/compressed.json" in page
    assert 15 < len(flat(read_json(tmp_path / "metrics" / "heads.json"))) <= 25
    for table, rows in (("head_roles", 5 * 12), ("heads_beside", 12), ("compressed", 4 * compressed["models"])):
        assert len(read_json(tmp_path / "plots" / "heads" / f"{table}.json")) == rows

    # The report of both axes writes the same claims with it as without it.
    run_stage("report", small)
    assert read_json(tmp_path / "metrics" / "claims.json")[CLAIM]["verdict"] == "not_measurable"
    assert Results.read(place, asked).metrics["claims"] == claims

    # Of other parameters, or of another run, it is not shown, and not missed.
    for key in ("heads.pairs", "compressed.methods"):
        other = Results.read(place, asked | {key: 77})
        assert not other.refused
        assert "head_roles" not in other.metrics
        assert other.metrics["claims"] == before.metrics["claims"]
    run = read_json(tmp_path / "metrics" / "heads_run.json")
    run["parameters"]["seed"] = 1
    (tmp_path / "metrics" / "heads_run.json").write_text(json.dumps(run))
    assert "head_roles" not in Results.read(place, None).metrics


@pytest.mark.end_to_end
def test_a_plain_run_leaves_it_out_and_one_line_runs_it(finished_project: Path, tmp_path: Path) -> None:
    project = duplicate(finished_project, tmp_path)
    params = project / "params.yaml"
    assert "Running stage" not in call(project, "dvc", "repro", "--dry")
    assert not (project / "metrics" / "heads.json").exists()
    call(project, "dvc", "checkout", "--force")  # as `make back` does

    settings = params.read_text()
    params.write_text(settings.replace("clean_auc: 0.9", "clean_auc: 0.51"))
    assert stages_run(call(project, "dvc", "repro")) == ["intervene", "report_meaning", "report"]
    output = call(project, "dvc", "repro", ASKED_FOR)
    assert set(re.findall(rf"Running stage '{ASKED_FOR}:(\w+)'", output)) == set(ON_DEMAND)
    assert "Running stage" not in call(project, "dvc", "repro", ASKED_FOR)
    assert (project / "heads" / "dvc.lock").is_file()
    assert read_yaml(project / "heads" / "dvc.lock")["stages"].keys() == set(ON_DEMAND)
    assert "Which heads bring the sense?".upper() in call(project, "permeation", "summary")
    for out in (f"plots/{HEADS.name}/head_roles.png", "metrics/heads.json", "metrics/heads_claims.json"):
        assert (project / out).is_file()
    shown = call(project, "dvc", "plots", "show", "-o", str(tmp_path / "shown"))
    assert "index.html" in shown
    page = (tmp_path / "shown" / "index.html").read_text(encoding="utf-8")
    assert "What each head brings of the sense" in page

    # A later plain run is a plain run still.
    params.write_text(params.read_text().replace("top: 5", "top: 4"))
    output = call(project, "dvc", "repro")
    assert stages_run(output) == ["logit_lens", "report_meaning", "report"]
    assert ASKED_FOR not in output
    shutil.rmtree(project / "data" / "heads")
    assert "Running stage" not in call(project, "dvc", "repro", "--dry")

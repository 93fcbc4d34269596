"""Where both axes meet: the stages that are run on demand, what is shown of them, and under DVC."""

import json
import re
import shutil
from pathlib import Path

import pytest

from permeation.frame.asked import asked_of, flat
from permeation.frame.pipeline import ASKED_FOR
from permeation.frame.tables import read_json, read_yaml
from permeation.report.axes import HEADS
from permeation.report.findings import summarise
from permeation.report.page import write_page
from permeation.report.results import Place, Results
from tests.conftest import PROJECT, WholeRun, call_stage
from tests.support import tiny
from tests.support.project import call, duplicate, stages_run

ON_DEMAND = ("heads", "compressed", "report_heads")
CLAIM = "low_variance"


def test_what_is_run_on_demand_is_shown_where_it_was_run(whole_run: WholeRun, tmp_path: Path) -> None:
    run, config = whole_run.copied_to(tmp_path), whole_run.config
    place, asked = Place("here", run), asked_of(PROJECT, config)
    before = Results.read(place, asked)
    assert not before.refused
    assert before.metrics["claims"][CLAIM]["verdict"] == "not_measurable"
    assert "WHICH HEADS BRING THE SENSE?" not in summarise(before)

    for name in ON_DEMAND:
        call_stage(name, config, run)
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
    assert 15 < len(flat(read_json(run / "metrics" / "heads.json"))) <= 25
    for table, rows in (("head_roles", 5 * 12), ("heads_beside", 12), ("compressed", 4 * compressed["models"])):
        assert len(read_json(run / "plots" / "heads" / f"{table}.json")) == rows

    # The report of both axes writes the same claims with it as without it.
    call_stage("report", config, run)
    assert read_json(run / "metrics" / "claims.json")[CLAIM]["verdict"] == "not_measurable"
    assert Results.read(place, asked).metrics["claims"] == claims

    # Of other parameters, or of another run, it is not shown, and not missed.
    for key in ("heads.pairs", "compressed.methods"):
        other = Results.read(place, asked | {key: 77})
        assert not other.refused
        assert "head_roles" not in other.metrics
        assert other.metrics["claims"] == before.metrics["claims"]
    provenance = read_json(run / "metrics" / "heads_run.json")
    provenance["parameters"]["seed"] = 1
    (run / "metrics" / "heads_run.json").write_text(json.dumps(provenance))
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

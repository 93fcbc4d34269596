"""The stages on small models, in this process, and as programs of their own."""

import gc
import importlib
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
import yaml

from permeation.config import Config, published
from permeation.frame.asked import asked_of
from permeation.frame.engine import EngineSettings
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json
from permeation.meaning.laws import PUBLISHED_G_LAWS
from permeation.report.findings import sections, summarise
from permeation.report.results import Place, Results
from permeation.rivals.frontier import Law
from stages import Stage, run
from tests.conftest import PROJECT, WholeRun, call_stage
from tests.support import tiny
from tests.support.project import STAGES

RunStage = Callable[[str, Config], Path]


@pytest.fixture(scope="module")
def llama(whole_run_of: Callable[[str], WholeRun], tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """A copy for this file of the run of a Llama, whose embedding knows no positions."""
    run = whole_run_of("llama")
    return replace(run, folder=run.copied_to(tmp_path_factory.mktemp("llama")))


def test_every_stage_runs_and_the_metrics_are_there(whole_run: WholeRun) -> None:
    folder = whole_run.folder
    results = Results.read(Place("here", folder), asked_of(PROJECT, whole_run.config))
    assert not results.refused
    metrics = results.metrics
    assert metrics["sigma"]["n_words"] == 9
    assert set(metrics["g"]["f_max"]) == set(metrics["sigma"]["words"])
    assert -1 <= metrics["g"]["word_correlation_min"] <= metrics["g"]["word_correlation_mean"] <= 1
    assert metrics["pca"]["n_heads"] == 12
    assert set(metrics["pca"]["circuit"]["components_for_variance"]) == {"50", "80", "90", "95", "99"}
    assert metrics["perplexity"]["baseline"]["windows"] == 8
    assert metrics["perplexity"]["baseline"]["tokens"] == 8 * 15
    assert set(metrics["perplexity"]["ratio"]) == {"1", "8", "13", "90%", "all"}
    assert metrics["perplexity"]["ratio"]["13"] is None  # there are 12 heads
    assert metrics["clusters"]["ratio"]["13"] is None
    assert metrics["perplexity"]["ratio"]["all"] == pytest.approx(1, abs=1e-4)
    assert metrics["perplexity"]["ratio"]["1"] != pytest.approx(1, abs=1e-4)
    assert metrics["clusters"]["ratio"]["12"] == pytest.approx(1, abs=1e-4)
    assert metrics["clusters"]["replaced_heads"]["12"] == 0
    said = summarise(results)
    assert re.search(r"^  all +1\.0000 ", said, re.MULTILINE)
    assert re.search(r"^  13 +not measured ", said, re.MULTILINE)
    assert max(map(len, said.splitlines())) <= 80
    for rows in (folder / "plots").glob("*/*.json"):
        assert all(math.isfinite(v) for row in read_json(rows) for v in row.values() if isinstance(v, float))
    assert len(list((folder / "plots").glob("*/*.png"))) in (15, 17)
    assert [path.name for path in (folder / "data").iterdir() if path.name.startswith(".")] == [".journal"]


def test_a_list_as_the_published_one_runs_and_its_weaknesses_are_said(
    config: Config, checkpoints: dict[str, Path], run_stage: RunStage, tmp_path: Path
) -> None:
    """Five direction prompts a sense, two words without a gradient, prompts that serve twice; published definitions."""
    entries = yaml.safe_load((PROJECT / "data" / "words.yaml").read_text())
    for i, entry in enumerate(entries.values()):
        entry["direction"] = {sense: prompts[:5] for sense, prompts in entry["direction"].items()}
        entry["conditions"]["strong_A"] = entry["direction"]["A"][0]
        if i < 2:
            del entry["gradient"]
    words = tmp_path / "published.yaml"
    words.write_text(yaml.safe_dump(entries))
    settings = replace(config, model=str(checkpoints["gpt2"]), words=str(words), definitions="published")
    settings = published(settings)
    for name in (*STAGES[: STAGES.index("tokenize_corpus")], "report_meaning"):
        if name != "fetch_corpus":
            run_stage(name, settings)
    results = Results.read(Place("here", tmp_path), asked_of(PROJECT, settings))
    sigma, g = (results.metrics[name] for name in ("sigma", "g"))
    assert (sigma["few_direction_prompts"], sigma["without_gradient"], sigma["repeated_prompts"]) == (9, 2, 9)
    assert len(sigma["words"]) == 9
    assert len(g["f_max"]) == 7
    assert g["best_model"] in PUBLISHED_G_LAWS
    said = " ".join(summarise(results).split())
    assert "9 of 9 words have fewer than 8 direction prompts" in said
    assert "2 of 9 words have no gradient" in said


def test_the_page_of_both_axes_needs_both(llama: WholeRun, tmp_path: Path) -> None:
    run = llama.copied_to(tmp_path)
    shutil.rmtree(run / "metrics")
    call_stage("report_meaning", llama.config, run)
    with pytest.raises(PermeationError):
        call_stage("report", llama.config, run)
    assert not (run / "metrics" / "claims.json").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # Ray's
def test_workers_give_the_same_bytes(llama: WholeRun, tmp_path: Path) -> None:
    """With a thread each, as here; with more threads the last bits differ, and no figure does."""
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    run = llama.copied_to(tmp_path, ".journal", "reconstruct")
    call_stage("reconstruct", replace(llama.config, engine=EngineSettings("ray", 2, None)), run)
    for path in (llama.folder / "data" / "reconstruct").rglob("*.*"):
        assert path.read_bytes() == (run / path.relative_to(llama.folder)).read_bytes()


def test_a_single_coefficient_clusters_too(llama: WholeRun, tmp_path: Path) -> None:
    run = llama.copied_to(tmp_path)
    call_stage("cluster", replace(llama.config, cluster=replace(llama.config.cluster, components=1)), run)
    heads = read_json(run / "data" / "cluster" / "plots" / "heads.json")
    assert any(head["component_2"] for head in heads)


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("reconstruct", {"components": (13, 14)}, r"reconstruct.components is \[13, 14\]; this model has 12 heads"),
        ("cluster", {"k": (13,)}, r"cluster.k is \[13\]; this model has 12 heads"),
        ("cluster", {"components": 13}, "cluster.components is 13; this model has 12 heads"),
        ("perplexity", {"context": 65}, "perplexity.context is 65; this model accepts at most 64"),
        ("moments", {"context": 65}, "moments.context is 65; this model accepts at most 64"),
        ("perplexity", {"max_tokens": 16}, "give 1 windows of 16 tokens to measure on, from 1 articles; an interval"),
        ("g", {"exclude_final": 2}, "g.exclude_final is 2, which leaves 1 of this model's 3 layers; the exponent of g"),
        ("g", {"exclude_final": 9}, "g.exclude_final is 9, which leaves 0 of this model's 3 layers; the exponent of g"),
        ("sigma", {"direction_layer": 4}, "sigma.direction_layer is 4; accepted for this model: -4 to 3"),
        ("sigma", {"direction_layer": 0}, "'bank' has no direction: at sigma.direction_layer the two senses' means"),
        ("locate", {"bands": 12}, "locate.bands is 12; accepted: 2 to 11, one a component"),
    ],
)
def test_what_the_model_cannot_give_is_an_error(
    llama: WholeRun, stage: str, change: dict[str, Any], message: str
) -> None:
    settings = replace(llama.config, **{stage: replace(getattr(llama.config, stage), **change)})
    name = {"perplexity": "baseline", "sigma": "compute_sigma", "g": "fit_g"}.get(stage, stage)
    seal = llama.folder / "data" / name / "SHA256SUMS"
    before = seal.read_bytes()
    with pytest.raises(PermeationError, match=message):
        call_stage(name, settings, llama.folder)
    assert seal.read_bytes() == before


@pytest.mark.parametrize("stage", ["tokenize_corpus", "extract_activations"])
def test_a_token_that_the_model_does_not_know_is_an_error(
    config: Config, run_stage: RunStage, tmp_path: Path, stage: str
) -> None:
    """As from another model's tokenizer, or one that was extended where the embedding was not."""
    tokenizer = tiny.tokenizer()
    known = len(tokenizer) - 1
    transformers.GPT2LMHeadModel(tiny.CONFIGS["gpt2"](known)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text(tokenizer.convert_ids_to_tokens(known) + " the bank" * 200)
    settings = replace(config, model=str(tmp_path / "model"), corpus=str(tmp_path / "text.txt"))
    run_stage("fetch_model", settings)
    run_stage("fetch_corpus", settings)
    with pytest.raises(PermeationError, match=rf"the tokenizer gives token {known}; .* tokens 0 to {known - 1}"):
        run_stage(stage, settings)


def test_a_bos_that_the_model_does_not_know_is_an_error(
    config: Config, checkpoints: dict[str, Path], run_stage: RunStage, tmp_path: Path
) -> None:
    """It stands in front of every window, and in none of the text's own tokens."""
    shutil.copytree(checkpoints["llama"], tmp_path / "model")
    tokenizer = tiny.tokenizer()
    known = len(tokenizer)
    tokenizer.add_special_tokens({"bos_token": "<added>"})
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("on the bank " * 200)
    settings = replace(config, model=str(tmp_path / "model"), corpus=str(tmp_path / "text.txt"))
    settings = replace(settings, perplexity=replace(settings.perplexity, prepend_bos=True))
    run_stage("fetch_model", settings)
    run_stage("fetch_corpus", settings)
    with pytest.raises(PermeationError, match=rf"the tokenizer gives token {known}; .* tokens 0 to {known - 1}"):
        run_stage("tokenize_corpus", settings)


def test_a_single_word_has_no_correlation_with_others(
    config: Config, checkpoints: dict[str, Path], run_stage: RunStage, tmp_path: Path
) -> None:
    source = (PROJECT / "data" / "words.yaml").read_text()
    start = source.index("\nrock:")
    (tmp_path / "one.yaml").write_text(source[start : source.index("\nmatch:")])
    settings = replace(config, model=str(checkpoints["gpt2"]), words=str(tmp_path / "one.yaml"))
    stages = (
        "fetch_model",
        "extract_activations",
        "compute_sigma",
        "fit_g",
        "nulls",
        "decode",
        "controls",
        "intervene",
    )
    for name in stages:
        run_stage(name, settings)
    summaries = {name: read_json(tmp_path / "data" / name / "summary.json") for name in stages[2:]}
    assert summaries["fit_g"]["word_correlation_mean"] is None
    assert np.isfinite(summaries["fit_g"]["alpha"])
    assert summaries["controls"]["null_correlation_mean"] is None
    assert "another_word" not in summaries["nulls"]["null"]
    metrics = {"g": {}, "decode": summaries["decode"], "sigma": summaries["compute_sigma"]}
    for name in ("fit_g", "nulls", "controls"):
        assert not metrics["g"].keys() & summaries[name].keys()
        metrics["g"] |= summaries[name]
    assert len(sections(metrics | {"intervene": summaries["intervene"]})) == 4


@pytest.mark.parametrize("field", ["rank", "heldout"])
def test_the_field_may_come_from_elsewhere(
    config: Config, checkpoints: dict[str, Path], run_stage: RunStage, tmp_path: Path, field
) -> None:
    settings = replace(config, model=str(checkpoints["gpt2"]), response=replace(config.response, field=field))
    for name in ("fetch_model", "extract_activations", "compute_sigma", "fit_g", "nulls"):
        run_stage(name, settings)
    rows = read_json(tmp_path / "data" / "fit_g" / "plots" / "response.json")
    # Only a field made of the final σ itself explains it fully.
    assert all(row["r_squared"] < 0.999 for row in rows if row["depth"] == 1)


def test_a_stage_whose_input_is_missing_says_which(config: Config, run_stage: RunStage) -> None:
    with pytest.raises(PermeationError, match=r"extract_wqk is missing; the stage that writes it has to run first"):
        run_stage("pca", config)


def test_a_device_that_is_not_there_is_an_error(config: Config, tmp_path: Path) -> None:
    import torch

    absent = next(name for name in ("mps", "cuda") if not getattr(torch, name).is_available())
    with pytest.raises(PermeationError, match=f"device is '{absent}', which this machine lacks; here: auto"):
        _ = Stage("pca", replace(config, device=absent), PROJECT, tmp_path).device
    assert Stage("pca", replace(config, device="cpu"), PROJECT, tmp_path).device == torch.device("cpu")


def program(*arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("name", STAGES)
def test_help_explains(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        run(importlib.import_module(f"stages.{name}").main)
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--model", "--device", "--output-dir"))


def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = program("-m", "stages.fetch_model", "--model", "../no/such", "--output-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("fetch_model: model is '../no/such'; accepted: smollm2-135m, gemma3-270m, a folder")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "data").iterdir()) == []


def test_what_the_system_refuses_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder belongs")
    done = program("-m", "stages.fetch_model", "--output-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("fetch_model: [Errno ")
    assert str(tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_collector_rests_while_a_stage_imports_and_works_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(sys, "argv", ["-m"])  # what Python says while it finds the module that it was asked for
    try:
        importlib.reload(sys.modules["stages"])
        assert not gc.isenabled()
        with pytest.raises(SystemExit) as ended:
            run(lambda _: seen.append(gc.isenabled()))
    finally:
        gc.enable()
        gc.unfreeze()
    assert (ended.value.code, seen) == (0, [True])


def test_a_rival_that_the_model_does_not_allow_is_noted(
    config: Config, checkpoints: dict[str, Path], run_stage: RunStage, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text((PROJECT / "data" / "words.yaml").read_text())
    settings = replace(config, model=str(checkpoints["llama"]), corpus=str(tmp_path / "text.txt"))
    settings = replace(
        settings,
        rivals=replace(config.rivals, methods=("circuit_svd_plain", "int_column"), calibrate=("circuit_svd_plain",)),
    )
    for name in ("fetch_model", "fetch_corpus", "tokenize_corpus", "baseline", "extract_wqk", "moments"):
        run_stage(name, settings)
    refused, *measured = read_json(run_stage("rivals", settings) / "rows.json")
    assert "this model rotates queries and keys by position" in refused["note"]
    assert refused["ratio"] is None
    assert [row["method"] for row in measured if row["ratio"] is not None] == ["int_column"] * len(settings.rivals.bits)


def test_a_run_that_the_law_rules_out_is_left_out_but_for_the_largest_size(
    config: Config, checkpoints: dict[str, Path], run_stage: RunStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text((PROJECT / "data" / "words.yaml").read_text())
    settings = replace(config, model=str(checkpoints["llama"]), corpus=str(tmp_path / "text.txt"))
    chosen = {"methods": ("int_column", "int_rows"), "calibrate": ("int_column",), "bits": (3.0, 4.0, 8.0)}
    settings = replace(settings, rivals=replace(config.rivals, **chosen))
    for name in ("fetch_model", "fetch_corpus", "tokenize_corpus", "baseline", "extract_wqk", "moments"):
        run_stage(name, settings)
    monkeypatch.setattr("permeation.rivals.frontier.Law.fit", lambda _: Law(c=1e6, runs=2, spread=2.0))
    rows = read_json(run_stage("rivals", settings) / "rows.json")
    left_out = [(row["method"], row["size"]) for row in rows if row["ratio"] is None]
    assert left_out == [("int_rows", 3)]  # at 3 bits int_column takes less, at 4 a scale for each row makes it larger
    assert all(row["foretold"] > 1 and "foretold" in row["note"] for row in rows if row["ratio"] is None)


def test_by_hand_a_stage_reads_and_writes_under_the_output_folder(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    arguments = ("--model", str(checkpoints["gpt2"]), "--device", "cpu", "--output-dir", str(tmp_path))
    for name in ("fetch_model", "extract_wqk"):
        done = program("-m", f"stages.{name}", *arguments)
        assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "data" / "extract_wqk" / "summary.json")["n_heads"] == 12

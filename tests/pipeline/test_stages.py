"""The stages on small models, in this process."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
import yaml

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json
from permeation.settings import Config
from tests.conftest import WholeRun, call_stage
from tests.support import tiny

RunStage = Callable[[str, Config], Path]
N_HEADS = tiny.LAYERS * tiny.HEADS
# A position embedding; no norm in front and norms of queries and keys; offsets, sliding windows; experts.
SOME = ("gpt2", "olmo2", "gemma3_text", "qwen3_moe")
# `-m end_to_end` takes all of docs/models.md; llama is the whole run's.
FAMILIES = [
    pytest.param(family, marks=() if family in SOME else pytest.mark.end_to_end)
    for family in tiny.ALL_CONFIGS
    if family != "llama"
]
READ_A_MODEL = ("fetch_model", "extract_activations", "intervene", "baseline", "extract_wqk", "pca", "reconstruct")
MEANING = ("fetch_model", "extract_activations", "compute_sigma", "fit_g", "controls", "intervene", "report_meaning")


def test_every_stage_runs_and_the_metrics_are_there(whole_run: WholeRun) -> None:
    folder = whole_run.folder
    metrics = {path.stem: read_json(path) for path in (folder / "metrics").iterdir()}
    assert metrics["sigma"]["n_words"] == 9
    assert set(metrics["g"]["f_max"]) == set(metrics["sigma"]["words"])
    assert -1 <= metrics["g"]["word_correlation_min"] <= metrics["g"]["word_correlation_mean"] <= 1
    assert metrics["pca"]["n_heads"] == N_HEADS
    assert set(metrics["pca"]["circuit"]["components_for_variance"]) == {"50", "80", "90", "95", "99"}
    assert metrics["perplexity"]["baseline"]["windows"] == 8
    assert metrics["perplexity"]["baseline"]["tokens"] == 8 * 15
    ratio = metrics["perplexity"]["ratio"]
    assert set(ratio) == {"1", "8", "13", "90%", "all"}
    assert ratio["13"] is metrics["clusters"]["ratio"]["13"] is None  # there are 12 heads
    assert ratio["all"] == pytest.approx(1, abs=1e-4)
    assert ratio["1"] != pytest.approx(1, abs=1e-4)
    assert metrics["clusters"]["ratio"]["12"] == pytest.approx(1, abs=1e-4)
    assert metrics["head_roles"]["n_heads"] == N_HEADS
    assert metrics["compressed"]["models"] > 0
    for rows in (folder / "plots").glob("*/*.json"):
        assert all(math.isfinite(v) for row in read_json(rows) for v in row.values() if isinstance(v, float))
    assert [path.name for path in (folder / "data").iterdir() if path.name.startswith(".")] == [".journal"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stages_that_read_a_model_run_on_a_family(
    family: str, config: Config, run_stage: RunStage, tmp_path: Path
) -> None:
    """The others see arrays that are alike for every family."""
    model = tiny.checkpoint(tmp_path / "model", family)
    for name in READ_A_MODEL:
        run_stage(name, replace(config, model=str(model)))
    ratio = read_json(tmp_path / "data" / "reconstruct" / "summary.json")["perplexity"]["ratio"]
    assert ratio["all"] == pytest.approx(1, abs=1e-4)
    assert ratio["1"] != pytest.approx(1, abs=1e-4)


def test_weak_lists_of_words_run_and_what_weakens_them_is_counted(
    config: Config, checkpoints: dict[str, Path], run_stage: RunStage, tmp_path: Path
) -> None:
    """One word; as published five direction prompts a sense, words without a gradient, prompts that serve twice."""
    words = tmp_path / "words.yaml"

    def metrics(entries: dict[str, Any]) -> list[Any]:
        words.write_text(yaml.safe_dump(entries))
        for name in MEANING:
            run_stage(name, replace(config, model=str(checkpoints["gpt2"]), words=str(words)))
        return [read_json(tmp_path / "metrics" / f"{name}.json") for name in ("sigma", "g")]

    entries = yaml.safe_load(tiny.WORDS_FILE.read_text(encoding="utf-8"))
    _, alone = metrics({"rock": entries["rock"]})
    assert alone["word_correlation_mean"] is None
    assert np.isfinite(alone["alpha"])
    for i, entry in enumerate(entries.values()):
        entry["direction"] = {sense: prompts[:5] for sense, prompts in entry["direction"].items()}
        entry["conditions"]["strong_A"] = entry["direction"]["A"][0]
        if i < 2:
            del entry["gradient"]
    sigma, g = metrics(entries)
    assert (sigma["few_direction_prompts"], sigma["without_gradient"], sigma["repeated_prompts"]) == (9, 2, 9)
    assert len(sigma["words"]) == 9
    assert len(g["f_max"]) == 7


def test_the_field_may_be_the_rank(whole_run: WholeRun, tmp_path: Path) -> None:
    run = whole_run.copied_to(tmp_path)
    settings = replace(whole_run.config, response=replace(whole_run.config.response, field="rank"))
    call_stage("fit_g", settings, run)
    rows = read_json(run / "data" / "fit_g" / "plots" / "response.json")
    # Only a field made of the final σ itself explains it fully.
    assert all(row["r_squared"] < 0.999 for row in rows if row["depth"] == 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # Ray's
@pytest.mark.parametrize("stage", ["reconstruct", "intervene"])
def test_workers_give_the_same_bytes(whole_run: WholeRun, tmp_path: Path, stage: str) -> None:
    """With a thread each, as here; with more threads the last bits differ, and no figure does."""
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    run = whole_run.copied_to(tmp_path, ".journal", stage)
    call_stage(stage, replace(whole_run.config, engine=replace(whole_run.config.engine, kind="ray", workers=2)), run)
    for path in (whole_run.folder / "data" / stage).rglob("*.*"):
        assert path.read_bytes() == (run / path.relative_to(whole_run.folder)).read_bytes()


@pytest.mark.parametrize(
    ("stage", "section", "change", "message"),
    [
        ("cluster", "cluster", {"k": (13,)}, r"cluster.k is .*; this model has 12 heads"),
        ("baseline", "perplexity", {"context": 65}, "perplexity.context is 65; this model accepts at most 64"),
        ("baseline", "moments", {"context": 65}, "moments.context is 65; this model accepts at most 64"),
        ("baseline", "perplexity", {"max_tokens": 16}, "an interval needs at least 2"),
        ("fit_g", "g", {"exclude_final": 2}, "g.exclude_final is 2, which leaves 1 of this model's 3 layers"),
        ("compute_sigma", "sigma", {"direction_layer": 4}, "sigma.direction_layer is 4; accepted for this model"),
        ("compute_sigma", "sigma", {"direction_layer": 0}, "'bank' has no direction"),
    ],
)
def test_what_the_model_cannot_give_is_an_error_and_loses_nothing(
    whole_run: WholeRun, tmp_path: Path, stage: str, section: str, change: dict[str, Any], message: str
) -> None:
    run = whole_run.copied_to(tmp_path)
    settings = replace(whole_run.config, **{section: replace(getattr(whole_run.config, section), **change)})
    before = (run / "data" / stage / "summary.json").read_bytes()
    with pytest.raises(PermeationError, match=message):
        call_stage(stage, settings, run)
    assert (run / "data" / stage / "summary.json").read_bytes() == before


def test_a_token_that_the_model_does_not_know_is_an_error(config: Config, run_stage: RunStage, tmp_path: Path) -> None:
    """As from another model's tokenizer, or one that was extended where the embedding was not."""
    tokenizer = tiny.tokenizer()
    known = len(tokenizer) - 1
    transformers.GPT2LMHeadModel(tiny.CONFIGS["gpt2"](known)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text(tokenizer.convert_ids_to_tokens(known) + " the bank" * 200)
    settings = replace(config, model=str(tmp_path / "model"), corpus=str(tmp_path / "text.txt"))
    run_stage("fetch_model", settings)
    with pytest.raises(PermeationError, match=rf"the tokenizer gives token {known}; .* tokens 0 to {known - 1}"):
        run_stage("baseline", settings)

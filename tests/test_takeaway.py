"""A compressed model that was written has, loaded again, the ratio that the run measures; bad input ends in a line."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bench.texts import across_texts, table
from permeation import cli
from permeation.frame.errors import PermeationError
from permeation.models.families import attention_outputs, attention_views
from permeation.models.fold import fold_norms
from permeation.models.load import load_folded
from permeation.perplexity.ratio import Baseline
from permeation.rivals.base import Problem, original_parameters
from permeation.rivals.registry import LAYER, Method
from permeation.rivals.stored import read_packed
from permeation.settings import Config, load
from permeation.takeaway import PACKED, apply, methods
from permeation.weights.heads import read_heads
from permeation.weights.inject import injected, write_unfolded
from permeation.weights.moments import collect
from tests.conftest import call_stage
from tests.support import tiny
from tests.test_public_names import example

# With biases and a norm that has a shift, with grouped queries, with norms of queries and keys and an offset of scales.
FAMILIES = ("gpt2", "llama", "gemma3_text")
MADE = {"int_g64_offset_rows": 4, "layer_subspace_score_6bit": 16, "pca": 5, "clusters": 4}
METRICS = ("score", "random")
TOKENS = torch.randint(2, 90, (3, 16), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module", params=FAMILIES)
def project(request: pytest.FixtureRequest, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that ran as far as the weights."""
    root = tmp_path_factory.mktemp(request.param)
    asked = replace(config, model=str(root / "tiny"), cluster=replace(config.cluster, components=6))
    tiny.checkpoint(root / "tiny", request.param)
    (root / "params.yaml").write_text(json.dumps(asdict(asked)), encoding="utf-8")
    for name in ("fetch_model", "baseline", "extract_wqk"):
        call_stage(name, asked, root)
    return root


@pytest.fixture(scope="module")
def whole_project(project: Path) -> Path:
    """The same with all of attention."""
    root = project.parent / f"{project.name}-whole"
    shutil.copytree(project, root)
    asked = json.loads((root / "params.yaml").read_text(encoding="utf-8"))
    asked["rivals"]["matrices"] = ["q", "k", "v", "o"]
    (root / "params.yaml").write_text(json.dumps(asked), encoding="utf-8")
    call_stage("baseline", load(root / "params.yaml"), root)
    return root


def problem(project: Path) -> Problem:
    """What the project's rivals are fitted to."""
    return Problem.read(project / "data" / "extract_wqk", project / "data" / "moments", 0)


def claimed(project: Path, method: str, size: int) -> float:
    """The ratio as the stages measure it: injected into the folded model, on the windows that settle it."""
    config, data = load(project / "params.yaml"), project / "data"
    heads = methods(config)[method].fit(problem(project)).apply(size).to(torch.float32)
    model, baseline = load_folded(data / "model", True), Baseline.read(data / "baseline")
    with injected(model, **heads.tensors()):
        return baseline.ratio(baseline.score(model, config.perplexity.tolerance)).value


@pytest.mark.parametrize("method", MADE)
def test_the_folder_has_the_ratio_that_the_run_measures(project: Path, method: str, tmp_path: Path) -> None:
    written = apply(method, tmp_path / "out", size=MADE[method], project=project)
    assert written.ratio.value == pytest.approx(claimed(project, method, MADE[method]), rel=1e-5)
    assert abs(written.ratio.value - 1) > 1e-4
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    own = transformers.AutoModelForCausalLM.from_pretrained(project / "data" / "model")
    changed = {name for name, W in own.state_dict().items() if not torch.equal(W, model.state_dict()[name])}
    assert changed and all("attn" in name for name in changed)
    said = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"{written.ratio.value:.6f}, 95 % interval {written.ratio.low:.4f}" in said
    assert f"{written.stored} bits" in said
    assert f"permeation apply {method} --size {MADE[method]} --output out`" in said


def test_a_family_s_own_weights_are_written_back_as_they_were() -> None:
    for family in ("gpt2", "llama", "gpt_neox", "qwen3", "olmo2", "gemma3_text", "phi", "bloom", "cohere"):
        plain, folded = tiny.model(family), tiny.model(family)
        if family == "gemma3_text":  # 1 + w = 0, as in the real one: that dimension counts in the norm all the same
            for model in (plain, folded):
                model.model.layers[0].self_attn.q_norm.weight[2] = -1.0
        expected = plain(TOKENS).logits
        fold_norms(folded)
        write_unfolded(plain, read_heads(folded))
        torch.testing.assert_close(plain(TOKENS).logits, expected, rtol=1e-4, atol=1e-4, msg=family)


def test_what_a_family_cannot_hold_is_refused() -> None:
    folded = tiny.model("gptj")
    fold_norms(folded)
    with pytest.raises(PermeationError, match="the projections of this gptj have no biases"):
        write_unfolded(tiny.model("gptj"), read_heads(folded))
    plain, folded = tiny.model("llama"), tiny.model("llama")
    plain.model.layers[1].input_layernorm.weight[3] = 0
    fold_norms(folded)
    with pytest.raises(PermeationError, match="the norm of layer 1 has a scale of 0"):
        write_unfolded(plain, read_heads(folded))


def test_bad_input_ends_in_one_line(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(cli, "PROJECT", project)
    monkeypatch.chdir(tmp_path)

    def call(arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["permeation", "apply", *arguments.split()])
        cli.main()

    said = {
        "int_nothing --bits 4 --output empty": "method is 'int_nothing'; accepted: int_column, ",
        "int_rows --bits 17 --output empty": "bits is 17; accepted: from 0 to less than 16, the weights' own",
        "int_rows --size 9 --output empty": "size is 9; int_rows has 2 to 8 on this model",
        "pca --size 12 --output empty": "size is 12; pca has 0 to 11 on this model",
        "int_rows --bits 4 --output full": "full is not an empty folder",
        "pca --size 2 --packed --output empty": "pca has no packed form; ",
    }
    for arguments, line in said.items():
        with pytest.raises(SystemExit, match=line) as left:
            call(arguments)
        assert "\n" not in str(left.value)
    assert not any((tmp_path / "empty").iterdir())
    call("int_rows --size 4 --packed --output empty")
    assert "- method: `int_rows`, size 4" in capsys.readouterr().out
    packed, stored = tmp_path / "empty" / PACKED, methods(load(project / "params.yaml"))["int_rows"]
    torch.testing.assert_close(read_packed(packed).W_Q, stored.fit(problem(project)).apply(4).W_Q, rtol=0, atol=0)


def test_bits_are_the_size_whose_storage_is_nearest(project: Path, tmp_path: Path) -> None:
    written = apply("layer_subspace_score_6bit", tmp_path / "out", bits=4.0, project=project)
    assert written.bits == written.stored / original_parameters(problem(project).heads) == pytest.approx(4, abs=0.4)


def test_all_of_attention_is_written_and_scored(project: Path, whole_project: Path, tmp_path: Path) -> None:
    with pytest.raises(PermeationError, match="this method mixes the heads' W_QK; V and O are stored by"):
        apply("pca", tmp_path / "out", size=2, project=whole_project)
    written = apply("int3_residual", tmp_path / "out", size=32, project=whole_project)
    assert written.ratio.value == pytest.approx(1, abs=0.02)
    model, own = load_folded(tmp_path / "out", True), load_folded(project / "data" / "model", True)
    for new, old in zip(attention_views(model), attention_views(own), strict=True):
        for name in ("W_Q", "W_K", "W_V"):
            assert 0 < (getattr(new, name) - getattr(old, name)).norm() < 0.1 * getattr(old, name).norm(), name
    for new, old in zip(attention_outputs(model), attention_outputs(own), strict=True):
        assert 0 < (new.W_O - old.W_O).norm() < 0.1 * old.W_O.norm()
    assert "W_Q, W_K, W_V and W_O compressed" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_the_heads_write_is_kept_best_in_its_own_metric() -> None:
    """Of all W_O of this rank the subspace loses the least of what the heads write, E ‖(W_O − Ŵ_O)ᵀ z‖²."""
    model = tiny.model("qwen3")
    fold_norms(model)
    batches = [torch.randint(2, 90, (20, 16), generator=torch.Generator().manual_seed(6))]
    heads, written = read_heads(model, whole=True), collect(model, batches, outputs=True)
    problem, S = Problem(heads, collect(model, batches), 0, written), written.shrunk
    rivals = {metric: Method(LAYER, {"metric": metric}).fit(problem) for metric in METRICS}
    assert original_parameters(heads) == sum(
        layer.W_Q.numel() + 2 * layer.W_K.numel() + layer.W_Q.numel() for layer in attention_views(model)
    )
    assert heads.W_O is not None
    W = heads.W_O.flatten(1, 2).double()
    lost = {}
    for metric, rival in rivals.items():
        W_O = rival.apply(20).W_O
        assert W_O is not None
        off = W_O.flatten(1, 2).double() - W
        lost[metric] = float((off.mT @ S @ off).diagonal(dim1=1, dim2=2).sum())
    tail = torch.linalg.svdvals(torch.linalg.cholesky(S).mT @ W)[:, 20:]
    assert lost["score"] == pytest.approx(float(tail.square().sum()), rel=1e-3)
    assert lost["score"] < lost["random"]


def test_a_method_that_is_fitted_to_a_text_is_measured_on_all(project: Path) -> None:
    (project / "other.txt").write_text(tiny.WORDS_FILE.read_text(encoding="utf-8")[::-1], encoding="utf-8")
    names = [str(tiny.WORDS_FILE), str(project / "other.txt")]
    methods_ = ["layer_subspace_score_6bit", "int_rows"]
    rows = list(across_texts(methods_, 5.0, names, project))
    assert [(row["method"], row["learned"], row["measured"]) for row in rows] == [
        (method, learned, measured) for method in methods_ for learned in names for measured in names
    ]
    fitted, plain = [row["ratio"] for row in rows[:4]], [row["ratio"] for row in rows[4:]]
    assert plain[:2] == plain[2:]  # what reads no moments learns nothing
    assert fitted[0] != fitted[2]
    assert rows[4]["ratio"] == pytest.approx(claimed(project, "int_rows", rows[4]["size"]), rel=1e-5)
    assert table(rows).count("\n") == 2 + 4
    assert f"| int_rows | {rows[4]['bits']:.2f} | {names[0]} | {plain[0]:.4f} (" in table(rows)
    with pytest.raises(PermeationError, match="method is 'mine'"):
        next(across_texts(["mine"], project=project))


def test_the_example_of_the_page_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    names: dict[str, Any] = {}
    exec(example("docs/apply.md"), names)
    assert "Estimate(value=" in capsys.readouterr().out
    assert names["heads"].W_Q.shape[0] == tiny.LAYERS

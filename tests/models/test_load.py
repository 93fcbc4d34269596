"""A checkpoint loads whole and finite, or ends in one line; nothing in it is run or unpickled."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json
from permeation.models.load import load_model
from permeation.models.sources import fetch_model
from permeation.models.tokenizer import load_tokenizer
from tests.support import tiny

TOKENS = torch.arange(2, 34).view(2, 16)
Change = Callable[[dict[str, torch.Tensor]], object]


def changed(source: Path, target: Path, change: Change, **config: Any) -> Path:
    """A copy of a checkpoint with its tensors and its configuration changed."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(read_json(target / "config.json") | config))
    return target


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), {}, "lacks 1 weights.*layers.1.mlp.up_proj"),
        (lambda t: t.update({"model.norm.weight": torch.ones(5)}), {}, "in another shape: model.norm.weight"),
        (lambda t: t["model.norm.weight"][3:4].fill_(torch.nan), {}, "not finite in model.norm.weight"),
        (lambda t: t["lm_head.weight"][0].fill_(torch.inf), {}, "not finite in lm_head.weight"),
        (lambda t: t.update({"model.norm.bias": torch.ones(32)}), {}, "no place .* for model.norm.bias"),
        (lambda t: t.update({"lm_head.bias": torch.ones(len(t["lm_head.weight"]))}), {}, "no place .* lm_head.bias"),
        (lambda _: None, {"num_hidden_layers": 2}, "no place by its configuration for model.layers.2"),
        (lambda _: None, {"num_hidden_layers": 4}, "lacks 9 weights.*model.layers.3"),
        (lambda _: None, {"hidden_size": -4}, "cannot be loaded|no usable config.json"),
        (lambda _: None, {"quantization_config": {"quant_method": "fp8"}}, "is quantised; accepted: plain weights"),
        (lambda _: None, {"model_type": "bert"}, "'bert', which reads in both directions; accepted: decoders"),
        (lambda _: None, {"model_type": "modern-marvel"}, "no usable config.json: .*modern-marvel"),
    ],
)
def test_a_checkpoint_at_odds_with_itself_is_an_error(
    checkpoints: dict[str, Path], tmp_path: Path, change: Change, config: dict[str, Any], message: str
) -> None:
    folder = changed(checkpoints["llama"], tmp_path / "odd", change, **config)
    with pytest.raises(PermeationError, match=message) as caught:
        load_model(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_python_without_docstrings_is_refused(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.flags", SimpleNamespace(optimize=2))
    with pytest.raises(PermeationError, match="PYTHONOPTIMIZE is 2, which takes out the docstrings"):
        load_model(checkpoints["gpt2"])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_truncated_file_is_an_error(checkpoints: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = changed(checkpoints["gpt2"], tmp_path / "short", lambda _: None)
    (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(PermeationError, match=r"the model in short (cannot be loaded|has no usable config\.json)"):
        load_model(folder)


@pytest.mark.parametrize(("family", "where"), [("gpt_neo", "attn.attention"), ("gptj", "attn"), ("gpt2", "attn")])
def test_masks_that_old_files_keep_are_passed_over(tmp_path: Path, family: str, where: str) -> None:
    source = tiny.checkpoint(tmp_path / "plain", family)

    def keep_masks(tensors: dict[str, torch.Tensor]) -> None:
        for i in range(tiny.LAYERS):
            mask = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
            tensors |= {f"transformer.h.{i}.{where}.bias": mask.clone()}
            tensors |= {f"transformer.h.{i}.{where}.masked_bias": torch.tensor(-1e9)}

    old = load_model(changed(source, tmp_path / "old", keep_masks))
    assert torch.equal(old(TOKENS).logits, load_model(source)(TOKENS).logits)


def test_a_tokenizer_gives_tokens_or_an_error(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = changed(checkpoints["gpt2"], tmp_path / "mute", lambda _: None)
    assert load_tokenizer(str(folder))("bank").input_ids
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(PermeationError, match=r"the tokenizer in mute knows no tokens; are its files there\?"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PermeationError, match="the tokenizer in mute"):
        load_tokenizer(folder)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.marker,)


@pytest.mark.parametrize("kind", ["model", "tokenizer", "pickle"])
def test_nothing_in_a_checkpoint_is_run_or_unpickled(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Even where whoever sits at the terminal answers yes to whatever is asked."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Trap(marker)))
    marker.rmdir()  # it goes off
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    mapped = {
        "AutoConfig": "evil.Config",
        "AutoModelForCausalLM": "evil.Model",
        "AutoTokenizer": ["evil.Slow", "evil.Fast"],
    }
    folder = changed(checkpoints["llama"], tmp_path / "evil", lambda _: None, auto_map=mapped, trust_remote_code=True)
    if kind == "tokenizer":
        told = read_json(folder / "tokenizer_config.json") | {"auto_map": mapped, "tokenizer_class": "EvilTokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(told))
    for name in ("evil.py", "custom_generate/generate.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"import os; os.mkdir({str(marker)!r})")
    for name in ("pytorch_model.bin", "model.pkl", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Trap(marker)))
    (tmp_path / "out").mkdir()
    if kind == "pickle":
        (folder / "model.safetensors").unlink()
    if kind == "model":
        fetch_model(folder, tmp_path / "out")
        assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".safetensors"}
    else:
        with pytest.raises(PermeationError, match=f"the {kind.replace('pickle', 'model')} in evil cannot be loaded"):
            fetch_model(folder, tmp_path / "out")
    assert not marker.exists()

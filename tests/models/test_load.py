"""Loading, views of the attention weights, and folding norms: held against transformers and TransformerLens."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from permeation.frame.errors import PermeationError
from permeation.models.families import attention_views, geometry_of
from permeation.models.fold import fold_norms
from permeation.models.load import load_bridge, load_folded, load_model
from permeation.weights.heads import read_heads
from tests.support import tiny

TOKENS = torch.arange(2, 34).view(2, 16)


def test_folding_the_norms_leaves_the_function_as_it_was(family: str) -> None:
    network = tiny.model(family).double()
    before = network(TOKENS).logits
    fold_norms(network)
    torch.testing.assert_close(network(TOKENS).logits, before)
    norm = next(attention_views(network)).norm
    assert (norm.weight == 1).all()


def test_norms_are_folded_where_that_is_asked_for(checkpoint: Path) -> None:
    own = read_heads(load_model(checkpoint))
    for fold_norm in (False, True):
        heads = read_heads(load_folded(checkpoint, fold_norm, torch.device("cpu")))
        assert torch.equal(heads.W_Q, own.W_Q) is not fold_norm


def test_folded_heads_are_those_of_transformer_lens(checkpoint: Path) -> None:
    bridge = load_bridge(checkpoint, torch.device("cpu"))
    bridge.enable_compatibility_mode(disable_warnings=True)
    heads = read_heads(load_folded(checkpoint, fold_norm=True, device=torch.device("cpu")))
    torch.testing.assert_close(heads.W_Q, bridge.W_Q)
    torch.testing.assert_close(heads.W_K, bridge.W_K)
    if heads.b_Q is not None:
        torch.testing.assert_close(heads.b_Q, bridge.b_Q)
        torch.testing.assert_close(heads.b_K, bridge.b_K)


def test_bridge_and_plain_model_give_the_same_logits(checkpoint: Path) -> None:
    plain = load_model(checkpoint)
    bridge = load_bridge(checkpoint, torch.device("cpu"))
    torch.testing.assert_close(bridge(TOKENS, return_type="logits"), plain(TOKENS).logits, atol=1e-4, rtol=1e-4)


def test_views_write_through_to_the_forward_pass(family: str) -> None:
    network = tiny.model(family)
    before = network(TOKENS).logits
    for layer in attention_views(network):
        layer.W_Q.zero_()
    assert not torch.allclose(network(TOKENS).logits, before)


def test_geometry(family: str) -> None:
    sizes = geometry_of(tiny.model(family))
    assert (sizes.n_layers, sizes.n_heads, sizes.d_model, sizes.d_head) == (3, 4, 32, 8)
    assert sizes.n_kv_heads == (2 if family == "llama" else 4)
    assert sizes.rotary == (family != "gpt2")
    assert sizes.n_ctx == 64


def damage(source: Path, target: Path, change) -> Path:
    """Copy a checkpoint with its tensors changed."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_weights_that_are_missing_are_an_error_not_random_numbers(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = damage(checkpoints["gpt2"], tmp_path / "lacking", lambda t: t.pop("transformer.h.1.mlp.c_fc.weight", None))
    with pytest.raises(PermeationError, match=r"lacks 1 of its weights.*h\.1\.mlp\.c_fc\.weight"):
        load_model(folder)


def test_weights_of_another_shape_are_an_error(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def shrink(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.0.ln_1.weight"] = torch.ones(5)

    with pytest.raises(PermeationError, match=r"ln_1\.weight|size mismatch|shape"):
        load_model(damage(checkpoints["gpt2"], tmp_path / "misshapen", shrink))


def test_weights_that_are_not_finite_are_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.2.ln_2.bias"][3] = float("nan")

    with pytest.raises(PermeationError, match=r"h\.2\.ln_2\.bias holds values that are not finite"):
        load_model(damage(checkpoints["gpt2"], tmp_path / "spoilt", spoil))


def test_a_truncated_file_is_an_error(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = damage(checkpoints["gpt2"], tmp_path / "short", lambda _: None)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(PermeationError, match="cannot be loaded"):
        load_model(folder)


def test_an_unsupported_family_is_named_with_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(PermeationError, match="'bert', which reads in both directions; accepted: decoders"):
        load_model(tmp_path)


def test_a_configuration_that_is_no_object_is_an_error(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = damage(checkpoints["gpt2"], tmp_path / "listed", lambda _: None)
    (folder / "config.json").write_text("[]")
    with pytest.raises(PermeationError, match=r"no usable config\.json: found list; accepted: an object"):
        load_model(folder)

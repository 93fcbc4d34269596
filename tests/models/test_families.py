"""Every family of docs/models.md on a small random model: what is read, folded, replaced and scored is the model's."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from permeation.frame.errors import PermeationError
from permeation.models import agreement
from permeation.models.agreement import checked_geometry
from permeation.models.families import FUSED, attention_views, check_family, readout, spread_layers
from permeation.models.fold import fold_norms
from permeation.models.load import load_bridge, load_folded, load_model
from permeation.weights.heads import read_heads
from tests.support import tiny

WINDOWS = torch.randint(2, 60, (2, 40), generator=torch.Generator().manual_seed(0))
EVERY = pytest.mark.parametrize("family", tiny.ALL_CONFIGS)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


@EVERY
def test_bridge_and_folded_form_compute_what_the_model_does(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 3e-6 of the stream's length (docs/models.md, Families)."""
    monkeypatch.setattr(agreement, "TOLERANCE", 3e-6)
    sizes = checked_geometry(tiny.checkpoint(tmp_path, family))
    assert (sizes["n_layers"], sizes["n_heads"], sizes["d_model"]) == (tiny.LAYERS, tiny.HEADS, tiny.WIDTH)
    config = load_model(tmp_path).config
    assert sizes["d_head"] == (getattr(config, "head_dim", None) or tiny.WIDTH // tiny.HEADS)
    assert sizes["rotary"] == (config.model_type not in ("gpt2", "gpt_neo", "opt", "bloom", "mpt"))


@EVERY
def test_folding_leaves_the_logits_and_writing_into_a_view_changes_them(family: str) -> None:
    """Also of a model whose weights require gradients, as from_pretrained gives it."""
    network = tiny.model(family).requires_grad_(True)
    before = network(WINDOWS).logits
    own = read_heads(network).W_Q.clone()
    fold_norms(network)
    close(network(WINDOWS).logits, before)
    layer = next(attention_views(network))
    scale = getattr(layer.norm, "weight", None)
    assert scale is None or (scale + layer.norm_offset == 1).all()
    assert not torch.equal(read_heads(network).W_Q, own)
    for name in ("W_Q", "W_K", "W_V"):
        view = getattr(layer, name)
        kept = view.clone()
        view.mul_(torch.linspace(0.2, 2, view.shape[2]))
        assert not torch.allclose(network(WINDOWS).logits, before, atol=1e-3), name
        view.copy_(kept)
    close(network(WINDOWS).logits, before)


def test_folding_is_exact_in_double_precision(family: str) -> None:
    network = tiny.model(family).double()
    before = network(WINDOWS).logits
    fold_norms(network)
    torch.testing.assert_close(network(WINDOWS).logits, before)


def test_folded_heads_are_those_of_transformer_lens(checkpoint: Path) -> None:
    bridge = load_bridge(checkpoint)
    bridge.enable_compatibility_mode(disable_warnings=True)
    heads = read_heads(load_folded(checkpoint, fold_norm=True))
    assert not torch.equal(heads.W_Q, read_heads(load_folded(checkpoint, fold_norm=False)).W_Q)
    torch.testing.assert_close(heads.W_Q, bridge.W_Q)
    torch.testing.assert_close(heads.W_K, bridge.W_K)
    if heads.b_Q is not None:
        torch.testing.assert_close(heads.b_Q, bridge.b_Q)
        torch.testing.assert_close(heads.b_K, bridge.b_K)


@pytest.mark.parametrize("family", FUSED)
def test_fused_projections_are_divided_as_transformer_lens_does(family: str, tmp_path: Path) -> None:
    """Its own division copies; ours is of views."""
    network = load_model(tiny.checkpoint(tmp_path, family))
    bridge: Any = load_bridge(tmp_path)
    for block, views in zip(bridge.blocks, attention_views(network), strict=True):
        for part, W, b in (("q", views.W_Q, views.b_Q), ("k", views.W_K, views.b_K), ("v", views.W_V, views.b_V)):
            theirs = getattr(block.attn, part)
            assert torch.equal(W.transpose(1, 2).flatten(0, 1), theirs.weight)
            assert (b is None) == (theirs.bias is None)
            assert b is None or torch.equal(b.flatten(), theirs.bias)


def test_a_scale_of_zero_is_folded_as_the_smallest_other_one() -> None:
    network = tiny.model("qwen3")
    for name, parameter in network.named_parameters():
        if "q_norm" in name:
            parameter[3] = 0
        if name.endswith("0.self_attn.k_norm.weight"):
            parameter.zero_()
    before = network(WINDOWS).logits
    layer = next(attention_views(network))
    own, scale, gamma = layer.W_Q.clone(), layer.q_norm[0].weight, layer.norm.weight.clone()
    fold_norms(network)
    close(network(WINDOWS).logits, before)
    close(layer.W_Q[:, :, 3], own[:, :, 3] * gamma * scale[scale != 0].abs().min())


@pytest.mark.parametrize(
    ("family", "reason"),
    {
        "deepseek_v3": "whose attention is latent",
        "gemma4_text": "shares its keys with other layers",
        "mamba": "linear attention, convolution or state space",
        "falcon_h1": "linear attention, convolution or state space",
        "qwen3_next": "linear attention, convolution or state space",
        "gpt_oss": "whose attention has sinks",
        "hunyuan_v1_dense": "norms queries and keys behind the rotation",
        "gemma3": "reads more than text",
        "gpt_bigcode": "whose fused queries, keys and values are not known here; accepted of such: gpt2, gpt_neox",
        "t5": "no decoder that both transformers and TransformerLens know",
        "bert": "reads in both directions; accepted: decoders",
        "vit": "no decoder that both transformers and TransformerLens know",
    }.items(),
)
def test_what_has_no_attention_of_this_kind_is_refused_in_one_line(family: str, reason: str) -> None:
    with pytest.raises(PermeationError, match=f"'{family}'.* {reason}"):
        check_family(transformers.CONFIG_MAPPING[family]())


def test_falcon_is_known_where_its_queries_stand_together() -> None:
    check_family(transformers.FalconConfig())  # 7B
    with pytest.raises(PermeationError, match=r"'falcon', whose keys stand among its queries \(Falcon 11B to 180B\)"):
        check_family(transformers.FalconConfig(new_decoder_architecture=True, num_kv_heads=8))


def test_a_scale_that_the_bridge_ignores_is_named(tmp_path: Path) -> None:
    network = tiny.model("gpt2")
    network.config.scale_attn_weights = False
    network.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(PermeationError, match=r"bridge of this gpt2 is not the model: it differs by .* at block 1"):
        checked_geometry(tmp_path)


def test_what_the_bridge_cannot_run_is_named(tmp_path: Path) -> None:
    config = tiny.ALL_CONFIGS["gpt_neox"](len(tiny.tokenizer()))
    config.attention_bias = False
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(PermeationError, match="TransformerLens cannot run this gpt_neox: AssertionError"):
        checked_geometry(tmp_path)


def test_logits_that_are_made_otherwise_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny.model("llama")
    own = type(network).forward

    def louder(self: Any, *arguments: Any, **named: Any) -> Any:
        done = own(self, *arguments, **named)
        done.logits = 2 * done.logits
        return done

    monkeypatch.setattr(type(network), "forward", louder)
    with pytest.raises(PermeationError, match=r"readout of this llama is not the model: it differs by 5\.0e-01"):
        agreement.trace(network)


@EVERY
def test_the_readout_of_the_trunk_is_the_models_logits(family: str) -> None:
    network = tiny.model(family)
    x = network.base_model(WINDOWS).last_hidden_state
    close(readout(network).logits(x), network(WINDOWS).logits)
    close(readout(network)[2:4].logits(x), network(WINDOWS).logits[..., 2:4])


def adapted() -> Any:
    return peft.get_peft_model(tiny.model("llama"), peft.LoraConfig(target_modules=["lm_head"]))


def hooked() -> Any:
    network = tiny.model("llama")
    network.lm_head.register_forward_hook(lambda _module, _inputs, output: output / 2)
    return network


@pytest.mark.filterwarnings("ignore")  # of peft and torch, about their own next versions
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (adapted, "is a PeftModel"),
        (lambda: adapted().base_model.model, "output layer of this LlamaForCausalLM is changed or has hooks"),
        (hooked, "output layer of this LlamaForCausalLM is changed or has hooks"),
        (lambda: torch.nn.DataParallel(tiny.model("llama")), "is a DataParallel"),
    ],
)
def test_a_readout_that_is_not_known_is_refused(changed: Any, reason: str) -> None:
    with pytest.raises(PermeationError, match=reason):
        readout(changed())


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert spread_layers("all", 1, 4) == [1, 2, 3, 4]
    assert spread_layers(15, 1, 4) == [1, 2, 3, 4]
    assert spread_layers(3, 1, 9) == [1, 5, 9]
    assert spread_layers(1, 1, 9) == [1]
    assert spread_layers(10, 0, 29)[:3] == [0, 3, 6]
    assert spread_layers(10, 0, 29)[-1] == 29

"""Every family of docs/models.md on a small random model: what is read, folded, replaced and scored is the model's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from permeation.frame.errors import PermeationError
from permeation.models import agreement, families
from permeation.models.agreement import checked_geometry
from permeation.models.families import FUSED, attention_views, check_family, geometry_of, readout, unsupported
from permeation.models.fold import fold_norms
from permeation.models.load import load_bridge, load_model
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.nll import window_nll
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection, injected
from tests.support import tiny

WINDOWS = torch.randint(2, 60, (2, 40), generator=torch.Generator().manual_seed(0))
EVERY = pytest.mark.parametrize("family", tiny.ALL_CONFIGS)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


@EVERY
def test_bridge_and_folded_form_compute_what_the_model_does(family: str, tmp_path: Path) -> None:
    """And the copy that fetch_model makes is the source, residuals, NLL and tokens."""
    sizes = checked_geometry(tiny.checkpoint(tmp_path, family))
    assert (sizes.n_layers, sizes.n_heads, sizes.d_model) == (tiny.LAYERS, tiny.HEADS, tiny.WIDTH)
    config = load_model(tmp_path).config
    assert sizes.d_head == (getattr(config, "head_dim", None) or tiny.WIDTH // tiny.HEADS)
    assert sizes.rotary == (config.model_type not in ("gpt2", "gpt_neo", "opt", "bloom"))


@EVERY
def test_folding_and_all_components_leave_the_logits_and_a_view_changes_them(family: str) -> None:
    network = tiny.model(family)
    before = network(WINDOWS).logits
    own = read_heads(network)
    fold_norms(network)
    close(network(WINDOWS).logits, before)
    layer = next(attention_views(network))
    assert (
        layer.norm is None
        or getattr(layer.norm, "weight", None) is None
        or (layer.norm.weight + layer.norm_offset == 1).all()
    )
    injection = GramInjection.fit(read_heads(network))
    assert torch.equal(injection.heads.W_Q, own.W_Q) is False
    with injected(network, injection.queries_for(injection.own)):
        close(network(WINDOWS).logits, before)
    with injected(network, injection.queries_for(injection.own.roll(1, 0))):
        assert not torch.allclose(network(WINDOWS).logits, before, atol=1e-2)
    for name in ("W_Q", "W_K", "W_V"):
        view = getattr(layer, name)
        kept = view.clone()
        view.mul_(torch.linspace(0.2, 2, view.shape[2]))
        assert not torch.allclose(network(WINDOWS).logits, before, atol=1e-3), name
        view.copy_(kept)
    close(network(WINDOWS).logits, before)


@EVERY
def test_the_scorer_gives_the_models_own_loss(family: str) -> None:
    network = tiny.model(family)
    logits = network(WINDOWS).logits[:, :-1]
    expected = cross_entropy(logits.flatten(0, 1), WINDOWS[:, 1:].flatten(), reduction="none").view(2, -1).sum(1)
    for model in (network, prepare_for_scoring(network, "float32", WINDOWS.shape[1])):
        found = np.concatenate(list(window_nll(model, WINDOWS)))
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("family", FUSED)
def test_fused_projections_are_divided_as_transformer_lens_does(family: str, tmp_path: Path) -> None:
    """Its own division copies; ours is of views."""
    network = load_model(tiny.checkpoint(tmp_path, family))
    bridge: Any = load_bridge(tmp_path, torch.device("cpu"))
    for block, views in zip(bridge.blocks, attention_views(network), strict=True):
        for part, W, b in (("q", views.W_Q, views.b_Q), ("k", views.W_K, views.b_K), ("v", views.W_V, views.b_V)):
            theirs = getattr(block.attn, part)
            assert torch.equal(W.transpose(1, 2).flatten(0, 1), theirs.weight)
            assert (b is None) == (theirs.bias is None)
            assert b is None or torch.equal(b.flatten(), theirs.bias)


def test_queries_that_no_view_has_are_refused() -> None:
    config = transformers.FalconConfig(
        num_hidden_layers=1, num_attention_heads=4, num_kv_heads=2, hidden_size=32, new_decoder_architecture=True
    )
    with pytest.raises(PermeationError, match="the queries of 2 key heads stand among keys and values"):
        geometry_of(transformers.AutoModelForCausalLM.from_config(config))


def test_a_scale_of_zero_is_folded_as_the_smallest_other_one() -> None:
    network = tiny.model("qwen3")
    for name, parameter in network.named_parameters():
        if "q_norm" in name:
            parameter[3] = 0
        if name.endswith("0.self_attn.k_norm.weight"):
            parameter.zero_()
    before = network(WINDOWS).logits
    own = next(attention_views(network)).W_Q.clone()
    layer = next(attention_views(network))
    scale, gamma = layer.q_norm[0].weight, layer.norm.weight.clone()
    fold_norms(network)
    close(network(WINDOWS).logits, before)
    least = scale[scale != 0].abs().min()
    close(layer.W_Q[:, :, 3], own[:, :, 3] * gamma * least)


REFUSED = {
    "deepseek_v3": "latent attention has no W_Q",
    "mamba": "linear attention, convolution or state space",
    "falcon_h1": "linear attention, convolution or state space",
    "qwen3_next": "linear attention, convolution or state space",
    "gemma3": "reads more than text",
    "gemma4_text": "borrow their keys",
    "codegen": "come from one projection that is not known here",
    "hrm_text": "which TransformerLens cannot describe",
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_has_no_attention_of_this_kind_is_refused_in_one_line(family: str) -> None:
    reason = unsupported(transformers.CONFIG_MAPPING[family]())
    assert reason is not None
    assert REFUSED[family] in reason
    assert f"'{family}'" in reason
    assert len(reason.splitlines()) == 1


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("t5", "an encoder-decoder; accepted: decoders"),
        ("bert", "reads in both directions"),
        ("modern-marvel", "whatever else both transformers and TransformerLens know"),
        (None, "whatever else"),
        ([], "whatever else"),
    ],
)
def test_what_is_no_decoder_is_refused_by_its_name(family: object, reason: str) -> None:
    with pytest.raises(PermeationError, match=reason):
        families.check_family(family)


def test_an_encoder_decoder_is_refused_by_its_configuration() -> None:
    config = transformers.LlamaConfig(is_encoder_decoder=True)
    assert "an encoder-decoder" in str(unsupported(config))


def test_a_scale_that_the_bridge_ignores_is_named(tmp_path: Path) -> None:
    network = tiny.model("gpt2")
    network.config.scale_attn_weights = False
    network.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(PermeationError, match=r"TransformerLens' bridge does not compute .* behind block 1 of 3"):
        checked_geometry(tmp_path)
    with pytest.raises(PermeationError, match=r"unusual in its config.json: scale_attn_weights: False"):
        checked_geometry(tmp_path)


def test_what_the_bridge_cannot_run_is_named(tmp_path: Path) -> None:
    config = tiny.ALL_CONFIGS["gpt_neox"](len(tiny.tokenizer()))
    config.attention_bias = False
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        PermeationError, match=r"TransformerLens cannot run this gpt_neox: AssertionError; .*attention_b"
    ):
        checked_geometry(tmp_path)


def test_a_model_that_reads_ahead_is_refused() -> None:
    network = tiny.model("llama")
    block = network.model.layers[1]
    own = block.forward
    block.forward = lambda x, *a, **k: own(x + x.mean(dim=1, keepdim=True), *a, **k)
    with pytest.raises(PermeationError, match="this llama reads ahead"):
        agreement.trace(network, agreement.window_for(network))


def test_logits_that_are_made_otherwise_are_refused() -> None:
    network = tiny.model("llama")
    own = network.lm_head.forward
    network.lm_head.forward = lambda x: own(x).tanh()
    with pytest.raises(PermeationError, match="the logits of this llama are not what its unembedding makes"):
        agreement.trace(network, agreement.window_for(network))


def test_losses_that_differ_are_said_so() -> None:
    network = tiny.model("llama")
    found = agreement.trace(network, agreement.window_for(network))
    other = agreement.Trace(found.residuals, found.nll + 1)
    with pytest.raises(PermeationError, match=r"A does not compute what B does: a token's NLL differs by 1\.0e\+00"):
        agreement.compare(other, found, "A", "B", network.config)
    layer = agreement.Trace(found.residuals * torch.tensor([2.0, 1, 1, 1])[:, None, None], found.nll)
    with pytest.raises(PermeationError, match=r"A does not compute what B does: .* at the embedding"):
        agreement.compare(layer, found, "A", "B", network.config)


def test_a_copy_without_the_tokenizers_files_is_refused(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    tiny.checkpoint(source, "llama")
    tiny.checkpoint(copy, "llama")
    agreement.check_copy(source, copy)
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["1,250"])
    tokenizer.save_pretrained(source)
    with pytest.raises(PermeationError, match="the tokenizer's copy does not give the tokens"):
        agreement.check_copy(source, copy)


def test_a_part_of_the_readout_is_of_these_tokens() -> None:
    network = tiny.model("gptj")
    assert torch.equal(readout(network)[2:4].W, network.lm_head.weight[2:4])
    assert torch.equal(readout(network)[2:4].b, network.lm_head.bias[2:4])


def test_a_known_family_may_have_a_configuration_that_is_refused() -> None:
    config = transformers.CONFIG_MAPPING["mamba"]()
    with pytest.raises(PermeationError, match="linear attention, convolution or state space"):
        check_family(config.model_type, config)


def test_a_damaged_copy_is_named_by_whoever_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.checkpoint(tmp_path, "llama")

    def refuse(*_: object) -> None:
        raise PermeationError("said already")

    monkeypatch.setattr(agreement, "load_bridge", refuse)
    with pytest.raises(PermeationError, match="said already"):
        checked_geometry(tmp_path)

"""Alignment: it changes no function, and takes back what was permuted and rotated."""

import copy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from permeation.universal.align import align, can_be_aligned, fold_all_norms
from permeation.universal.stack import matrices
from permeation.universal.subspace import random_frame

TOKENS = torch.arange(24).view(2, 12) * 7 % 50


def llama(seed: int, kv_heads: int = 2, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.copy_(torch.rand_like(weight) + 0.5 if "norm" in name else 8 * weight)
    return model


def scrambled(model: LlamaForCausalLM, seed: int) -> LlamaForCausalLM:
    """The same function with folded norms, in another residual basis, its heads and hidden units in another order."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    fold_all_norms(model)
    Q = random_frame(32, 32, generator).float()
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        weight.copy_(weight @ Q)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for part in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            part.weight.copy_(part.weight @ Q)
        for part in (attention.o_proj, mlp.down_proj):
            part.weight.copy_(Q.T @ part.weight)
        units = torch.randperm(40, generator=generator)
        for part in (mlp.gate_proj, mlp.up_proj):
            part.weight.copy_(part.weight[units])
        mlp.down_proj.weight.copy_(mlp.down_proj.weight[:, units])
        groups = attention.k_proj.out_features // 8
        order = torch.randperm(groups, generator=generator)
        T = torch.stack([random_frame(8, 8, generator) for _ in range(groups)]).float()
        angle = torch.rand(groups, 1, 4, 1, generator=generator) * 6.3
        for part in (attention.q_proj, attention.k_proj):
            first, second = part.weight.unflatten(0, (groups, -1, 2, 4)).unbind(2)
            turned = [angle.cos() * first - angle.sin() * second, angle.sin() * first + angle.cos() * second]
            part.weight.copy_(torch.stack(turned, dim=2)[order].flatten(0, 3))
        attention.v_proj.weight.copy_((T @ attention.v_proj.weight.unflatten(0, (groups, 8)))[order].flatten(0, 1))
        W_O = attention.o_proj.weight.T.unflatten(0, (groups, -1, 8))
        attention.o_proj.weight.copy_((T[:, None] @ W_O)[order].flatten(0, 2).T)
    return model


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_permuted_and_rotated_models_are_aligned_back(kv_heads: int) -> None:
    model = llama(0, kv_heads)
    reference, other = copy.deepcopy(model), scrambled(model, 1)
    fold_all_norms(reference)
    logits = model(TOKENS).logits
    torch.testing.assert_close(other(TOKENS).logits, logits, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(other.lm_head.weight, reference.lm_head.weight, atol=0.1)

    align(other, reference)

    for mine, theirs in zip(matrices(other), matrices(reference), strict=True):
        torch.testing.assert_close(mine.read(), theirs.read(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_aligning_changes_no_function(tied: bool) -> None:
    model, reference = llama(0, tied=tied), llama(1, tied=tied)
    logits = model(TOKENS).logits
    fold_all_norms(model), fold_all_norms(reference)
    before = sum(float((a.read() * b.read()).sum()) for a, b in zip(matrices(model), matrices(reference), strict=True))
    align(model, reference)
    after = sum(float((a.read() * b.read()).sum()) for a, b in zip(matrices(model), matrices(reference), strict=True))
    torch.testing.assert_close(model(TOKENS).logits, logits, rtol=1e-3, atol=1e-3)
    assert after > before + 50  # the matrices lie nearer to the reference's


def test_only_models_of_llamas_shape_are_aligned() -> None:
    assert can_be_aligned(llama(0))
    assert not can_be_aligned(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)))

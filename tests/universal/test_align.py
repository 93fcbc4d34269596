"""Alignment: it changes no function, and takes back what was permuted and rotated."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from permeation.universal.align import align
from permeation.universal.stack import layers
from permeation.universal.subspace import random_frame

TOKENS = torch.arange(24).view(2, 12) * 7 % 50


def llama(seed: int, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.copy_(torch.rand_like(weight) + 0.5 if "norm" in name else 8 * weight)
    return model


def scrambled(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same function with its heads and hidden units in another order and its values turned."""
    model, draw = copy.deepcopy(model), torch.Generator().manual_seed(1)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        T = torch.block_diag(*(random_frame(8, 8, draw).float() for _ in range(4)))
        attention.v_proj.weight.copy_(T.T @ attention.v_proj.weight)
        attention.o_proj.weight.copy_(attention.o_proj.weight @ T)
        heads = (8 * torch.randperm(4, generator=draw)[:, None] + torch.arange(8)).flatten()
        units = torch.randperm(40, generator=draw)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj):
            part.weight.copy_(part.weight[heads])
        for part in (mlp.gate_proj, mlp.up_proj):
            part.weight.copy_(part.weight[units])
        attention.o_proj.weight.copy_(attention.o_proj.weight[:, heads])
        mlp.down_proj.weight.copy_(mlp.down_proj.weight[:, units])
    return model


def similarity(model: LlamaForCausalLM, other: LlamaForCausalLM) -> float:
    """The sum of inner products of all matrices."""
    pairs = zip(layers(model).values(), layers(other).values(), strict=True)
    return sum(float((a.weight * b.weight).sum()) for a, b in pairs)


def test_permuted_and_rotated_models_are_aligned_back() -> None:
    reference = llama(0)
    model, logits = scrambled(reference), reference(TOKENS).logits
    torch.testing.assert_close(model(TOKENS).logits, logits, rtol=1e-3, atol=1e-3)
    assert similarity(model, reference) < 0.7 * similarity(reference, reference)

    align(model, reference)

    for mine, theirs in zip(layers(model).values(), layers(reference).values(), strict=True):
        torch.testing.assert_close(mine.weight, theirs.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_another_residual_basis_is_aligned_and_changes_no_function(tied: bool) -> None:
    model, reference = llama(0, tied=tied), llama(1, tied=tied)
    logits, before = model(TOKENS).logits, similarity(model, reference)
    align(model, reference)
    torch.testing.assert_close(model(TOKENS).logits, logits, rtol=1e-3, atol=1e-3)
    assert similarity(model, reference) > before + 50
    turned, Q = copy.deepcopy(model), random_frame(32, 32, torch.Generator().manual_seed(1)).float()
    for name, weight in turned.named_parameters():
        if weight.ndim == 2:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            weight.copy_(Q.T @ weight if writes else weight @ Q)
    align(turned, model)
    torch.testing.assert_close(turned.lm_head.weight, model.lm_head.weight, rtol=1e-3, atol=1e-4)
    assert similarity(turned, model) == pytest.approx(similarity(model, model), rel=1e-4)

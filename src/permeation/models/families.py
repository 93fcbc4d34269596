"""Where each family keeps its attention weights, seen through views of the shape that the field uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class Geometry:
    """The sizes of a decoder, as in model.json.

    Attributes:
        family: transformers' model_type.
        n_layers, n_heads, n_kv_heads: blocks; query heads and key heads per block.
        d_model, d_head, d_vocab: widths of the residual stream, of a head, of the logits.
        n_ctx: the longest context, in tokens.
        n_parameters: of the whole model, tied weights counted once.
        rotary: whether the positions enter by rotating queries and keys.
    """

    family: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_vocab: int
    n_ctx: int
    n_parameters: int
    rotary: bool


@dataclass(frozen=True)
class AttentionViews:
    """One attention layer's input side as views of the model's parameters; writing into a view changes the model.

    Attributes:
        norm: the norm in front of the layer.
        W_Q: (n_heads, d_model, d_head). W_K, W_V: (n_kv_heads, d_model, d_head).
        b_Q, b_K, b_V: (heads, d_head), or None in a family without biases.
    """

    norm: Any
    W_Q: Float[Tensor, "heads d_model d_head"]
    W_K: Float[Tensor, "kv_heads d_model d_head"]
    W_V: Float[Tensor, "kv_heads d_model d_head"]
    b_Q: Float[Tensor, "heads d_head"] | None
    b_K: Float[Tensor, "kv_heads d_head"] | None
    b_V: Float[Tensor, "kv_heads d_head"] | None


def _gpt2(block: Any) -> AttentionViews:
    attention = block.attn
    shape = (3, attention.num_heads, attention.head_dim)
    weights = attention.c_attn.weight.unflatten(1, shape).permute(1, 2, 0, 3)  # Conv1D keeps (in, out)
    return AttentionViews(block.ln_1, *weights, *attention.c_attn.bias.unflatten(0, shape))


def _llama(block: Any) -> AttentionViews:
    attention = block.self_attn
    linears = (attention.q_proj, attention.k_proj, attention.v_proj)
    shape = (-1, attention.head_dim)
    weights = (linear.weight.unflatten(0, shape).transpose(1, 2) for linear in linears)
    biases = (None if linear.bias is None else linear.bias.unflatten(0, shape) for linear in linears)
    return AttentionViews(block.input_layernorm, *weights, *biases)


def _gpt_neox(block: Any) -> AttentionViews:
    attention = block.attention
    if attention.query_key_value.bias is None:
        raise PermeationError("the model is a gpt_neox whose attention_bias is false; accepted: true")
    shape = (-1, 3, attention.head_size)  # the three of a head stand together
    weights = attention.query_key_value.weight.unflatten(0, shape).permute(1, 0, 3, 2)
    biases = attention.query_key_value.bias.unflatten(0, shape).transpose(0, 1)
    return AttentionViews(block.input_layernorm, *weights, *biases)


FAMILIES: dict[str, Callable[[Any], AttentionViews]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _llama,
    "gpt_neox": _gpt_neox,
}


def blocks(model: Any) -> nn.ModuleList:
    """The transformer blocks of a causal language model, whatever its family calls them."""
    trunk = model.base_model
    return next(child for child in trunk.children() if isinstance(child, nn.ModuleList))


def attention_views(model: Any) -> Iterator[AttentionViews]:
    """The attention layers' views, first block first."""
    return map(FAMILIES[model.config.model_type], blocks(model))


def check_family(family: object) -> None:
    """Raise PermeationError unless transformers' `model_type` is one that FAMILIES has views for."""
    if family not in list(FAMILIES):
        raise PermeationError(f"the model is of the family {family!r}; supported: {', '.join(FAMILIES)}")


def geometry_of(model: Any) -> Geometry:
    """The sizes of a loaded model."""
    first = next(attention_views(model))
    n_heads, d_model, d_head = first.W_Q.shape
    config = model.config
    return Geometry(
        family=config.model_type,
        n_layers=len(blocks(model)),
        n_heads=n_heads,
        n_kv_heads=first.W_K.shape[0],
        d_model=d_model,
        d_head=d_head,
        d_vocab=model.get_output_embeddings().weight.shape[0],
        n_ctx=config.max_position_embeddings,
        n_parameters=model.num_parameters(),
        rotary=any("rotary" in name for name, _ in model.named_modules()),
    )

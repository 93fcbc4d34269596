"""Views of a model's attention weights in the field's shape, found through TransformerLens' adapters.

`transformer_lens.model_bridge.supported_architectures` says for each architecture where its blocks, norms and
projections are. It copies a fused projection apart; FUSED says how views divide it (docs/models.md, Families).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class AttentionViews:
    """One attention layer's input side as views of the model's parameters; writing into a view changes the model.

    Attributes:
        norm: the norm in front of the layer, None where there is none to fold (OLMo 2, and where it stands behind).
        norm_offset: what is added to a norm's weight to scale with, 1 in the Gemma family. centres: whether the norm
            takes the mean over d_model out. also_read_by: what else reads the norm's output (a parallel MLP).
        projections: of queries, keys and values, which read the same; three times the same where they are fused.
        q_norm, k_norm: the norms of queries and keys, none in most families.
    """

    norm: Any
    norm_offset: float
    centres: bool
    also_read_by: tuple[nn.Module, ...]
    projections: tuple[nn.Module, nn.Module, nn.Module]
    q_norm: tuple[nn.Module, ...]
    k_norm: tuple[nn.Module, ...]
    W_Q: Float[Tensor, "heads d_model d_head"]
    W_K: Float[Tensor, "kv_heads d_model d_head"]
    W_V: Float[Tensor, "kv_heads d_model d_head"]
    b_Q: Float[Tensor, "heads d_head"] | None
    b_K: Float[Tensor, "kv_heads d_head"] | None
    b_V: Float[Tensor, "kv_heads d_head"] | None


# Rows of a fused projection: all queries, all keys, all values; or for each key head its queries, its key, its value.
# Behind each, the line of transformers' forward pass that divides.
FUSED: dict[str, Literal["stacked", "by key head"]] = {
    "gpt2": "stacked",  # GPT2Attention: self.c_attn(hidden_states).split(self.split_size, dim=2)
    "gpt_neox": "by key head",  # GPTNeoXAttention: .view(*, -1, 3 * self.head_size).chunk(3, dim=-1)
    "bloom": "by key head",  # BloomAttention._reshape: .view(*, self.num_heads, 3, self.head_dim)
    "falcon": "by key head",  # FalconAttention._split_heads: .view(*, -1, heads // kv_heads + 2, self.head_dim)
    "mpt": "stacked",  # MptAttention: mixed_qkv.chunk(3, dim=2)
    "phi3": "stacked",  # Phi3Attention: query_pos = heads * head_dim, then two of kv_heads * head_dim
}

# Families that TransformerLens has an adapter for and that cannot be looked at.
_TURNED = "which norms queries and keys behind the rotation, where their scales cannot be folded"
REFUSED = {
    "bert": "which reads in both directions; accepted: decoders",
    "gpt_oss": "whose attention has sinks, which take a share of the softmax",
    "hunyuan_v1_dense": _TURNED,
    "hunyuan_v1_moe": _TURNED,
}
# TransformerLens' names for parts of a block that mix tokens otherwise than by attention.
MIXERS = ("SSMMixerBridge", "SSM2MixerBridge", "GatedDeltaNetBridge")


def check_family(config: Any) -> None:
    """Raise PermeationError unless each block attends by softmax(q kᵀ) over the past, q and k linear in its input."""
    if (reason := _refusal(config)) is not None:
        raise PermeationError(f"the model is of the family {config.model_type!r}, {reason}")


def _refusal(config: Any) -> str | None:
    from transformer_lens.model_bridge.generalized_components import AttentionBridge, MLAAttentionBridge

    if config.get_text_config() is not config:
        return "which reads more than text; accepted: models of text alone"
    if config.model_type in REFUSED:
        return REFUSED[config.model_type]
    described = _adapter(config).component_mapping
    parts = described["blocks"].submodules if "blocks" in described else {}
    attention = parts.get("attn")
    named = getattr(attention, "submodules", {})
    mixed = any(type(part).__name__ in MIXERS for part in parts.values())
    if mixed or not isinstance(attention, AttentionBridge) or attention.optional:
        return "which has linear attention, convolution or state space in it; accepted: attention alone"
    if isinstance(attention, MLAAttentionBridge) or any(part in named and named[part].optional for part in "qkv"):
        return "whose attention is latent or shares its keys with other layers; accepted: keys of its own in each layer"
    if getattr(config, "new_decoder_architecture", False):
        return "whose keys stand among its queries (Falcon 11B to 180B), which TransformerLens' bridge cannot divide"
    if not {"q", "k", "v"} <= named.keys() or ("qkv" in named and config.model_type not in FUSED):
        return f"whose fused queries, keys and values are not known here; accepted of such: {', '.join(FUSED)}"
    return None


def _adapter(config: Any) -> Any:
    """TransformerLens' description of an architecture: its parts by name, without weights."""
    from transformer_lens.factories import architecture_adapter_factory as known
    from transformer_lens.model_bridge.sources import build_bridge_config_from_hf
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if name not in known.SUPPORTED_ARCHITECTURES:
        raise PermeationError(f"{config.model_type!r} is no decoder that both transformers and TransformerLens know")
    told = build_bridge_config_from_hf(config, name, name, torch.float32)
    return known.ArchitectureAdapterFactory.select_architecture_adapter(told)


_ADAPTERS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _adapter_of(model: Any) -> Any:
    if model not in _ADAPTERS:
        _ADAPTERS[model] = _adapter(model.config)
    return _ADAPTERS[model]


def blocks(model: Any) -> nn.ModuleList:
    """The transformer blocks of a causal language model, whatever its family calls them."""
    return model.get_submodule(_adapter_of(model).component_mapping["blocks"].name)


def final_norm(model: Any) -> Callable[[Tensor], Tensor]:
    """What stands between the last block and the unembedding: a norm, OPT-350M's projection, or nothing."""
    mapping = _adapter_of(model).component_mapping
    last = mapping.get("ln_final", mapping.get("project_out"))
    return nn.Identity() if last is None else model.get_submodule(last.name)


@dataclass(frozen=True)
class Readout:
    """logits = transform(x Wᵀ + b), with x what the trunk gives; `transform` is a soft cap or a scale of each logit."""

    W: Float[Tensor, "d_vocab d_model"]
    b: Float[Tensor, "d_vocab"] | None
    transform: Callable[[Tensor], Tensor]

    def __getitem__(self, rows: slice) -> Readout:
        return Readout(self.W[rows], None if self.b is None else self.b[rows], self.transform)

    def logits(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        return self.transform(nn.functional.linear(x, self.W, self.b))


def readout(model: Any) -> Readout:
    """How a model makes logits of its trunk's output.

    Raises PermeationError for wrappers (PeftModel, DataParallel) and for output layers that are not a plain nn.Linear
    (LoRA, quantised) or have hooks.
    """
    name = type(model).__name__
    if type(model).__module__.partition(".")[0] != "transformers":
        raise PermeationError(f"the model is a {name}; accepted: transformers' own classes (merge_and_unload adapters)")
    check_family(model.config)
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head._forward_hooks or head._forward_pre_hooks or "forward" in vars(head):
        raise PermeationError(f"the output layer of this {name} is changed or has hooks; accepted: a plain nn.Linear")
    return Readout(head.weight, head.bias, _adapter_of(model).apply_output_logits_transform)


def stream_of(output: Any) -> Tensor:
    """The residual stream in what a block returned: in some families it is the first of a tuple."""
    return output[0] if isinstance(output, tuple) else output


def attention_views(model: Any) -> Iterator[AttentionViews]:
    """The attention layers' views, first block first."""
    adapter = _adapter_of(model)
    return (_views(block, adapter, model.config) for block in blocks(model))


@dataclass(frozen=True)
class AttentionOutput:
    """Where the heads of one attention layer come together and enter the residual stream.

    Attributes:
        projection: reads z, the heads' outputs side by side, (…, n_heads · d_head), and gives Σ_h z_h W_O^h + b_O.
        norm: what stands between it and the stream (Gemma 2 and 3, OLMo 2); None in most families.
        scale: what the family multiplies it with on the way (Granite); 1 in most.
    """

    projection: nn.Module
    norm: nn.Module | None
    scale: float
    W_O: Float[Tensor, "heads d_head d_model"]


def attention_outputs(model: Any) -> Iterator[AttentionOutput]:
    """Where each attention layer's heads come together, first block first."""
    adapter = _adapter_of(model)
    parts = adapter.component_mapping["blocks"].submodules
    behind, scale = parts.get("ln1_post"), float(getattr(model.config, "residual_multiplier", 1.0))
    path = f"{parts['attn'].name}.{parts['attn'].submodules['o'].name}"
    for block in blocks(model):
        projection: Any = block.get_submodule(path)
        weight = projection.weight.detach()
        W_O = weight.T if isinstance(projection, nn.Linear) else weight  # Conv1D: (in, out)
        norm = None if behind is None else block.get_submodule(behind.name)
        yield AttentionOutput(projection, norm, scale, W_O.unflatten(0, (adapter.cfg.n_heads, -1)))


def _views(block: Any, adapter: Any, config: Any) -> AttentionViews:
    from transformer_lens.model_bridge.generalized_components import ParallelBlockBridge

    whole, cfg, fused = adapter.component_mapping["blocks"], adapter.cfg, config.model_type in FUSED
    parts, named = whole.submodules, whole.submodules["attn"].submodules
    attention = block.get_submodule(parts["attn"].name)
    # In OPT-350M the norm called ln1 stands behind the attention.
    in_front = "ln1" in parts and getattr(config, "do_layer_norm_before", True)
    norm = block.get_submodule(parts["ln1"].name) if in_front else None
    own = parts["ln1"]._uses_weight_offset_override if in_front else None  # only Nemotron's LayerNorm1P has one
    offset = getattr(cfg, "rmsnorm_uses_offset", False) if own is None else own
    alone = isinstance(whole, ParallelBlockBridge) and "ln2" not in parts
    projections = tuple(attention.get_submodule(named["qkv" if fused else part].name) for part in "qkv")

    def rows(kind: str) -> Iterator[Any]:
        """Of queries, keys and values: (heads, d_head, d_model) of the weights, (heads, d_head) of the biases."""
        tensors = [None if (kept := getattr(each, kind)) is None else kept.detach() for each in projections]
        if fused and tensors[0] is not None:
            return _divided(projections[0], tensors[0], FUSED[config.model_type], cfg.n_heads, cfg.d_head)
        return (None if each is None else each.unflatten(0, (-1, cfg.d_head)) for each in tensors)

    return AttentionViews(
        norm=norm,
        norm_offset=float(offset),
        centres=norm is not None and "RMSNorm" not in type(norm).__name__,
        also_read_by=(block.get_submodule(parts["mlp"].name),) if alone else (),
        projections=projections,
        q_norm=_norms(attention, named.get("q_norm")),
        k_norm=_norms(attention, named.get("k_norm")),
        **{f"W_{part}": each.transpose(1, 2) for part, each in zip("QKV", rows("weight"), strict=True)},
        **{f"b_{part}": each for part, each in zip("QKV", rows("bias"), strict=True)},
    )


def _norms(attention: Any, named: Any) -> tuple[nn.Module, ...]:
    """The norm of queries or keys; where each head has its own, all of them; none where the model has none."""
    module = None if named is None else getattr(attention, named.name, None)
    parts = () if module is None else module.modules()
    return tuple(part for part in parts if getattr(part, "weight", None) is not None)


def _divided(
    fused: nn.Module, whole: Tensor, order: Literal["stacked", "by key head"], n_heads: int, d_head: int
) -> Iterator[Tensor]:
    """Queries, keys and values of a fused weight, (heads, d_head, d_model), or bias, (heads, d_head), as views."""
    if not isinstance(fused, nn.Linear) and whole.dim() == 2:
        whole = whole.T  # GPT-2's Conv1D keeps (in, out)
    rows = whole.unflatten(0, (-1, d_head))
    n_kv_heads = (len(rows) - n_heads) // 2
    group = n_heads // n_kv_heads
    if order == "stacked":
        return iter(rows.split((n_heads, n_kv_heads, n_kv_heads)))
    each = rows.unflatten(0, (n_kv_heads, group + 2))
    return (part.view(-1, *part.shape[2:]) for part in (each[:, :group], each[:, -2:-1], each[:, -1:]))


def spread_layers(count: int | Literal["all"], first: int, last: int) -> list[int]:
    """`count` layers, evenly spread from `first` to `last`; all of them for `all`, or where there are no more."""
    every = range(first, last + 1)
    return list(every) if count == "all" else sorted({round(x) for x in np.linspace(first, last, int(count))})


def longest_context(config: Any) -> int:
    """The longest context of a model in tokens; where positions have no end (BLOOM), TransformerLens' figure."""
    known = getattr(config, "max_position_embeddings", None)
    return int(_adapter(config).cfg.n_ctx if known is None else known)


def geometry_of(model: Any) -> dict[str, Any]:
    """The sizes of a loaded model, as in model.json: heads of a block, tokens (n_ctx), parameters (tied ones once).

    `rotary`: whether the positions enter by rotating queries and keys.
    """
    first = next(attention_views(model))
    n_heads, d_model, d_head = first.W_Q.shape
    return {
        "family": model.config.model_type,
        "n_layers": len(blocks(model)),
        "n_heads": n_heads,
        "n_kv_heads": len(first.W_K),
        "d_model": d_model,
        "d_head": d_head,
        "d_vocab": len(model.get_output_embeddings().weight),
        "n_ctx": longest_context(model.config),
        "n_parameters": model.num_parameters(),
        "rotary": _adapter_of(model).cfg.positional_embedding_type == "rotary",
    }

"""A fetched checkpoint: as a plain transformers model (weights, scoring) or as a TransformerBridge (hooks).

The plain model's attention weights are seen through *views*: tensors of the shape the field uses, (heads, d_model,
d_head), that share the parameters' memory. Reading, folding a norm and injecting new weights are then the same few
lines for every family, and a family is nothing but the few lines that make its views.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor, nn

from permeation.errors import PermeationError
from permeation.files import read_json

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

transformers.logging.disable_progress_bar()

Shapes = Mapping[str, Sequence[int]]

WEIGHTS = "model.safetensors"
LAYER = re.compile(r"(?:^|\.)(\d+)\.")  # in the name of a weight
# What a config.json may say to make transformers read other files (with torch.load, too) or run a hub's kernels.
DETOURS = ("transformers_weights", "quantization_config", "attn_implementation", "_attn_implementation")


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


@torch.no_grad()
def fold_norms(model: Any) -> None:
    """Fold the scale and shift of each attention layer's norm into W_Q, W_K, W_V; the model's function stays.

    W ← γ ∘ W and b ← b + β W, then γ = 1 and β = 0. A LayerNorm's output has mean zero over d_model, so W's mean
    over d_model never acts and is removed too (DESIGN.md, Weights; TransformerLens' compatibility mode does the
    same). An RMSNorm does not centre, so its weights are not centred.
    """
    for layer in attention_views(model):
        gamma, beta = layer.norm.weight, getattr(layer.norm, "bias", None)
        for W, b in ((layer.W_Q, layer.b_Q), (layer.W_K, layer.b_K), (layer.W_V, layer.b_V)):
            if beta is not None:
                assert b is not None, "every supported family with a LayerNorm has attention biases"
                b += beta @ W
            W *= gamma[:, None]
            if isinstance(layer.norm, nn.LayerNorm):
                W -= W.mean(dim=1, keepdim=True)
        gamma.fill_(1.0)
        if beta is not None:
            beta.zero_()


def load(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A fetched checkpoint as a plain transformers model in evaluation mode, its weights never to be trained.

    Raises PermeationError for a family that is not in FAMILIES, for a damaged file and for weights that are missing
    or not finite.
    """
    config, name = read_config(folder), f"the model in {folder.name}"
    skeleton(config, _shapes(folder), name)
    return read_weights(folder, config, name, dtype).eval().requires_grad_(False).to(device)


def read_weights(folder: Path, config: Any, name: str, dtype: torch.dtype, gguf: str | None = None) -> Any:
    """The model of this configuration with the weights in a folder or a GGUF file.

    Raises PermeationError for a damaged file and for weights that are missing, of another shape, without a place in
    the model's blocks or not finite.
    """
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            gguf_file=gguf,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise PermeationError(f"{name} cannot be loaded: {one_line(error)}") from error
    model, report = loaded
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
        raise PermeationError(
            f"{name} lacks {len(lacking)} of its weights or has them in another shape: "
            f"{', '.join(lacking[:3])}{' …' if len(lacking) > 3 else ''}"
        )
    # A head of another task, or the mask that old versions kept with the weights, is no part of the blocks.
    strange = sorted(key for key in report["unexpected_keys"] if LAYER.search(key) and not key.endswith("masked_bias"))
    if strange:
        raise PermeationError(f"{name} has no place by its configuration for {strange[0]}, which is among its weights")
    check_finite(model)
    return model


def skeleton(config: Any, shapes: Shapes, name: str) -> Any:
    """The model that a configuration describes, with weights that take no memory.

    Raises PermeationError where `shapes`, of the tensors that are to fill it, are of another number of layers or hold
    less than half of its numbers: transformers makes room for all of them before it says which are missing.
    """
    check_layers([config.num_hidden_layers], shapes, name)
    try:
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise PermeationError(f"{name} cannot be built from its configuration: {one_line(error)}") from error
    if not all(parameter.numel() for parameter in model.parameters()):
        raise PermeationError(f"{name} has weights of no size by its configuration")
    held = sum(map(math.prod, shapes.values()))
    for tensors in (model.parameters(), model.buffers()):
        if (asked := sum(tensor.numel() for tensor in tensors)) > 2 * held:
            raise PermeationError(f"{name} has {asked} numbers by its configuration; its weights are {held}")
    return model


def check_layers(said: Sequence[object], tensors: Iterable[str], name: str) -> None:
    """Raise PermeationError unless a configuration's counts of layers are that of its tensors' names."""
    found = len({match[1] for tensor in tensors if (match := LAYER.search(tensor))})
    if not said or any(count != found for count in said):
        spoken = " and ".join(map(repr, said)) or "no number of"
        raise PermeationError(f"{name} has {spoken} layers by its configuration; its weights are of {found}")


def load_for_injection(folder: Path, fold_norm: bool, device: torch.device) -> Any:
    """The checkpoint as the weight axis looks at it and writes into it: with or without the norms folded in."""
    model = load(folder, device)
    if fold_norm:
        fold_norms(model)
        check_finite(model)  # a product of finite numbers need not be
    return model


def check_finite(model: Any) -> None:
    """Raise PermeationError that names the first parameter with a NaN or an infinity in it."""
    for name, parameter in model.named_parameters():
        # One pass in which a NaN wins; isfinite over all the numbers takes ten times as long.
        if not torch.stack(torch.aminmax(parameter)).isfinite().all():
            raise PermeationError(f"the model's weight {name} holds values that are not finite")


def read_config(folder: Path) -> Any:
    """The checkpoint's configuration.

    Raises PermeationError where its family is not supported, where it leads away from the folder's safetensors, and
    where it has another number of layers than they have.
    """
    said, name = read_json(folder / "config.json"), f"the model in {folder.name}"
    if not isinstance(said, dict):
        raise PermeationError(f"{name} has no usable config.json: found {type(said).__name__}; accepted: an object")
    check_family(said.get("model_type"))
    if leading_away := [key for key in DETOURS if said.get(key) is not None]:
        raise PermeationError(f"{name} has {leading_away[0]} in its config.json; accepted: plain, unquantised weights")
    # Before the configuration is made: Qwen2's makes a list of so many entries.
    check_layers([said[key] for key in ("num_hidden_layers", "n_layer") if key in said], _shapes(folder), name)
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            num_labels=2,  # a classifier's, of which transformers would make a dictionary
        )
    except Exception as error:
        raise PermeationError(f"{name} has no usable config.json: {one_line(error)}") from error
    check_family(config.model_type)
    return config


def check_family(family: object) -> None:
    """Raise PermeationError unless transformers' `model_type` is one that FAMILIES has views for."""
    if family not in list(FAMILIES):
        raise PermeationError(f"the model is of the family {family!r}; supported: {', '.join(FAMILIES)}")


def _shapes(folder: Path) -> Shapes:
    """The shapes of a checkpoint's weights by name, from the headers of the files that transformers will read.

    Raises PermeationError where they are not safetensors files in this very folder.
    """
    shapes: dict[str, Sequence[int]] = {}
    try:
        names = {WEIGHTS}
        if not (folder / WEIGHTS).is_file():
            names = set(read_json(folder / f"{WEIGHTS}.index.json")["weight_map"].values())
        files = [path for path in folder.glob("*.safetensors") if path.name in names]
        for file in files:
            with safe_open(file, framework="pt") as opened:
                shapes |= {tensor: opened.get_slice(tensor).get_shape() for tensor in opened.keys()}  # noqa: SIM118
    except PermeationError:
        raise
    except Exception as error:
        raise PermeationError(f"the weights in {folder.name} cannot be loaded: {one_line(error)}") from error
    if lacking := names - {path.name for path in files}:
        raise PermeationError(f"{folder.name}: its index names {lacking.pop()!r}, no safetensors file in the folder")
    return shapes


def geometry(model: Any) -> Geometry:
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


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer; raises PermeationError where it cannot be read or does not work."""
    config = read_config(folder)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False
        )
        tokenizer(["a trial"], add_special_tokens=False)
    except Exception as error:
        raise PermeationError(f"the tokenizer in {folder.name} cannot be loaded: {one_line(error)}") from error
    return tokenizer


def check_tokens(ids: Int[Tensor, "tokens"], d_vocab: int) -> None:
    """Raise PermeationError where a tokenizer gave a token that the model's embedding has no row for."""
    if len(ids) and (highest := int(ids.max())) >= d_vocab:
        raise PermeationError(f"the tokenizer gives token {highest}; the model knows the tokens 0 to {d_vocab - 1}")


def load_bridge(folder: Path, device: torch.device) -> TransformerBridge:
    """The checkpoint as a TransformerBridge in float32: same weights, with hooks on every activation.

    The bridge rebuilds the model it is given in place, so it gets one of its own.
    """
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        str(folder), hf_model=load(folder, device), tokenizer=load_tokenizer(folder), device=str(device)
    )


def one_line(error: Exception) -> str:
    """What an error says, in one line that can be read."""
    return textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=" …")

"""A GGUF file as a transformers checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import numpy as np
import torch
import transformers
from transformers import modeling_gguf_pytorch_utils as loader
from transformers.integrations.gguf import reader as tables

from permeation.frame.errors import PermeationError, one_line
from permeation.models.families import check_family
from permeation.models.guard import check_layers, skeleton
from permeation.models.load import read_weights

# Limits of a file's metadata. The largest vocabularies have 262,144 tokens and half a million merges. While the file is
# read each number takes an object or two, and each token is cut in two at every one of its characters.
METADATA_BYTES, METADATA_NUMBERS, TOKEN_CHARACTERS = 2**25, 2**21, 2**12

# What a file says of its architecture, and the names under which transformers' configurations have it. What stands in
# none of these tables is an error: it may change what the model computes.
CARRIED: dict[str, tuple[str, ...]] = {
    "block_count": ("num_hidden_layers",),
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_hidden_size"),
    "vocab_size": ("vocab_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
}
# These change nothing: the order of rows in Meta's files, and a flag that is always true.
SILENT = ("tensor_data_layout", "attention.causal")
BASE, ROTATED, SCALING = "rope.freq_base", "rope.dimension_count", "rope.scaling."
# Factors by which the positions' frequencies are divided: Llama 3.1's; Phi-3's for short and for long texts.
FREQUENCIES, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor is in its file: the type of its numbers, the first byte, and how many."""

    shape: tuple[int, ...]
    kind: int
    start: int
    nbytes: int


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF file's weights, dequantised to float32, and its tokenizer as a transformers checkpoint.

    Raises PermeationError for a damaged file, for one that claims more than it holds, for a family that is not
    supported, and for anything in the file that has no place in a checkpoint.
    """
    # An empty folder: transformers would also read what lies next to the file.
    with tempfile.TemporaryDirectory() as nothing, _reading_once() as placed:
        source, name = str(file.resolve()), f"the model in {file.name}"
        try:
            metadata, tensors = _check(file)
            config = transformers.AutoConfig.from_pretrained(nothing, gguf_file=source, trust_remote_code=False)
            tokenizer = transformers.AutoTokenizer.from_pretrained(nothing, gguf_file=source, trust_remote_code=False)
            check_family(config.model_type, config)
            _carry(metadata, config)
            _carry_positions(metadata, {key: _numbers(file, tensors[key]) for key in _factors(tensors)}, config)
            if hasattr(config, "attention_bias"):  # pragma: no branch (Qwen2 has none, and its biases always)
                config.attention_bias = any(key.endswith("attn_q.bias") for key in tensors)
        except PermeationError as error:
            raise PermeationError(f"{file.name}: {error}") from error
        except Exception as error:
            raise PermeationError(f"{file.name} cannot be read as GGUF: {one_line(error)}") from error
        model = skeleton(config, {key: tensor.shape for key, tensor in tensors.items()}, name)
        loaded = read_weights(Path(nothing), config, name, torch.float32, gguf=source)
    if left := sorted(tensors.keys() - placed - {FREQUENCIES, SHORT, LONG}):
        raise PermeationError(f"{name} has no place in transformers for {left[0]}, which is among its weights")
    # transformers refuses to save what came out of a GGUF file, so the weights move to a model that did not.
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _reading_once() -> Iterator[set[str]]:
    """Let transformers' loader read the file once, not for configuration, tokenizer and weights each (20 s a time), and
    make gguf's table of names once, not for each of the model's modules.

    Gives the names of the tensors that it has found a place for.
    """
    placed: set[str] = set()
    own = loader.get_gguf_hf_weights_map

    def noted(*arguments: Any, **named: Any) -> Any:
        found = own(*arguments, **named)
        placed.update(found)
        return found

    once: dict[str, Any] = {
        name: lru_cache(maxsize=1)(getattr(gguf, name)) for name in ("GGUFReader", "get_tensor_name_map")
    }
    with patch.multiple(gguf, **once), patch.object(loader, "get_gguf_hf_weights_map", noted):
        yield placed


def _check(file: Path) -> tuple[dict[str, Any], dict[str, _Tensor]]:
    """The metadata and the tensors of a GGUF file; raises where they claim to be larger than the file allows.

    Sizes of number types are those of the gguf package, which reads the weights; transformers' own reader knows fewer.
    """
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ValueError("it does not start with the letters GGUF")
    blob = tables._mapped(str(file))
    metadata, count, position = tables._read_metadata(blob, str(file), ("tokenizer.ggml.tokens",))
    if metadata.get("split.count", 1) > 1:
        raise PermeationError(
            f"it is part {metadata.get('split.no', 0) + 1} of {metadata['split.count']} of a split file; accepted: "
            "the whole, as llama.cpp's llama-gguf-split --merge makes it"
        )
    numbers = sum(len(value) for value in metadata.values() if isinstance(value, list))
    longest = max(map(len, metadata.get("tokenizer.ggml.tokens", ())), default=0)
    if position > METADATA_BYTES or numbers > METADATA_NUMBERS or longest > TOKEN_CHARACTERS:
        raise ValueError("its metadata is too large for a vocabulary")
    entries, end = tables._read_tensor_table(blob, count, position)
    alignment = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
    data = -(-end // alignment) * alignment
    tensors = {key: _Tensor(shape, kind, data + offset, _bytes(shape, kind)) for key, shape, kind, offset in entries}
    if sum(_bytes(shape, kind) for _, shape, kind, _ in entries) > file.stat().st_size:
        raise ValueError("its tensors are larger than the file")
    # This comes before the configuration is made: some families' configurations hold an entry for each layer.
    check_layers([value for key, value in metadata.items() if key.endswith(".block_count")], tensors, file.name)
    return metadata, tensors


def _bytes(shape: tuple[int, ...], kind: int) -> int:
    values, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return prod(shape) // values * width


def _factors(tensors: Mapping[str, _Tensor]) -> Iterator[str]:
    return (key for key in (FREQUENCIES, SHORT, LONG) if key in tensors)


def _numbers(file: Path, tensor: _Tensor) -> list[float]:
    if tensor.kind != gguf.GGMLQuantizationType.F32:
        raise ValueError("its factors of the positions' frequencies are no float32 numbers")
    return [float(x) for x in np.fromfile(file, np.float32, prod(tensor.shape), offset=tensor.start)]


def _carry(metadata: Mapping[str, Any], config: Any) -> None:
    """Put what a file says of its architecture into the configuration; transformers has put a part of it there.

    Raises PermeationError for what has no place there.
    """
    prefix = metadata["general.architecture"] + "."
    implied = {
        "head_dim": config.hidden_size // config.num_attention_heads,
        "intermediate_size": 4 * config.hidden_size,
        "num_key_value_heads": config.num_attention_heads,
        "max_position_embeddings": metadata.get(f"{prefix}context_length"),  # BLOOM's positions have no end
    }
    for key, value in metadata.items():
        said = key.removeprefix(prefix)
        if said == key or said in (*SILENT, BASE, ROTATED) or said.startswith(SCALING):
            continue
        names = CARRIED.get(said, ())
        name = next((each for each in names if hasattr(config, each)), None)
        values = set(value) if isinstance(value, list) else {value}
        if len(values) == 1 and name is None and names and implied.get(names[0]) in values:
            continue
        if len(values) != 1 or name is None:
            raise PermeationError(
                f"it says {key} = {value!r}, which has no place in transformers' configuration of {config.model_type}"
            )
        if not _same(getattr(config, name), only := values.pop()):
            setattr(config, name, only)


def _carry_positions(metadata: Mapping[str, Any], factors: Mapping[str, list[float]], config: Any) -> None:
    """The same for rotating positions: base, rotated part of a head, and scaling of the frequencies."""
    prefix = metadata["general.architecture"] + "."
    said = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(f"{prefix}rope.")}
    if not said and not factors:
        return
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, dict):
        raise PermeationError(
            f"it says {prefix}{next(iter(said), FREQUENCIES)}, and {config.model_type} rotates nothing"
        )
    parameters = parameters.get("full_attention", parameters)  # Gemma 3 has others for its sliding windows
    if BASE in said and not _same(parameters.get("rope_theta"), said[BASE]):
        parameters["rope_theta"] = said[BASE]
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotated = d_head * parameters.get("partial_rotary_factor", 1.0)
    if ROTATED in said and said[ROTATED] != int(rotated):
        if "partial_rotary_factor" not in parameters:
            raise PermeationError(
                f"it says {prefix}{ROTATED} = {said[ROTATED]}; {config.model_type} rotates all {d_head} of a head"
            )
        parameters["partial_rotary_factor"] = said[ROTATED] / d_head
    scaling = {key.removeprefix(SCALING): value for key, value in said.items() if key.startswith(SCALING)}
    parameters.update(_scaling(scaling, factors, config.max_position_embeddings, d_head))


def _scaling(said: Mapping[str, Any], factors: Mapping[str, list[float]], n_ctx: int, d_head: int) -> dict[str, Any]:
    """transformers' rope_parameters for a file's rope.scaling.* and its tensors of factors.

    Factors for each frequency are what transformers calls longrope, whatever rule they once came from; Llama 3.1's
    come without a scale of the attention.
    """
    kind = said.get("type", "linear" if "factor" in said else "none")  # as llama.cpp reads it
    known = {"type", "factor", "original_context_length", "attn_factor", "finetuned"}
    if any(len(each) > d_head // 2 for each in factors.values()):
        raise ValueError("its factors of the positions' frequencies are more than there are frequencies")
    if said.keys() <= known and (kind in ("none", "longrope", "su") if factors else True):
        if FREQUENCIES in factors and factors.keys() == {FREQUENCIES} and kind == "none":
            both = factors[FREQUENCIES]
            return {
                "rope_type": "longrope",
                "short_factor": both,
                "long_factor": both,
                "factor": 1.0,
                "attention_factor": 1.0,
                "original_max_position_embeddings": n_ctx,
            }
        if factors.keys() == {SHORT, LONG}:
            original = said.get("original_context_length", n_ctx)
            scale = {"attention_factor": said["attn_factor"]} if "attn_factor" in said else {}
            return {
                "rope_type": "longrope",
                "short_factor": factors[SHORT],
                "long_factor": factors[LONG],
                "factor": n_ctx / original,
                "original_max_position_embeddings": original,
                **scale,
            }
        if not factors and kind == "none":
            return {}
        if not factors and said.get("attn_factor", 1.0) == 1.0 and "factor" in said:
            if kind == "linear":
                return {"rope_type": "linear", "factor": said["factor"]}
            if kind == "yarn" and "original_context_length" in said:
                original = said["original_context_length"]
                return {"rope_type": "yarn", "factor": said["factor"], "original_max_position_embeddings": original}
    spoken = [f"{SCALING}{key} = {value!r}" for key, value in said.items()] + list(factors)
    raise PermeationError(f"its scaling of the positions is not one that is known here: {', '.join(spoken)}")


def _same(a: Any, b: Any) -> bool:
    """Whether two values are the same, up to the rounding of a float32."""
    return a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 1e-6 * abs(b))

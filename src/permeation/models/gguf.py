"""A GGUF file as a transformers checkpoint.

transformers reads the weights, and a part of what the file says of its architecture. It drops the rest without a word.
Here everything that the file says has a place in the configuration, and every tensor one in the model, or is an error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import transformers
from transformers import modeling_gguf_pytorch_utils as loader
from transformers.integrations.gguf.reader import read_gguf_metadata

from permeation.frame.errors import PermeationError, one_line
from permeation.models.families import check_family
from permeation.models.load import read_weights

# What a file says of its architecture, and where transformers' configurations have it: the first that a family has. All
# else is there under its own last name (vocab_size, sliding_window, use_parallel_residual), or has no place.
CARRIED: dict[str, tuple[str, ...]] = {
    "block_count": ("num_hidden_layers",),
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_hidden_size"),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
}
# These change nothing, whatever they are or with these values.
SILENT = ("tensor_data_layout", "rope.scaling.finetuned")
NEUTRAL: list[tuple[str, object]] = [("attention.causal", True), ("attention.sliding_window", 0)]
NEUTRAL += [("rope.scaling.type", "none"), ("rope.scaling.attn_factor", 1.0)]
FREQUENCIES = "rope_freqs.weight"  # Llama 3.1's factors, by which the positions' frequencies are divided
ATTENTION = ("attn_q.weight", "attn_k.weight", "attn_qkv.weight")  # W_Q and W_K; in some families W_V with them
# Gemma's 27B models, by their number of blocks, scale the scores as llama.cpp does: by hidden_size / heads.
GEMMA_27B = {"gemma2": 46, "gemma3_text": 62}


def convert(file: Path, folder: Path) -> float | None:
    """Write a GGUF file's weights, dequantised to float32, and its tokenizer as a transformers checkpoint.

    Gives the bits that the file spends on each number of W_Q and W_K; None where they are not quantised.
    """
    name, source = f"the model in {file.name}", str(file.resolve())
    # An empty folder: transformers would also read what lies next to the file. One reader: it takes seconds to make.
    with (
        tempfile.TemporaryDirectory() as nothing,
        patch.object(gguf, "GGUFReader", lru_cache(maxsize=1)(gguf.GGUFReader)),
        patch.object(gguf, "get_tensor_name_map", lru_cache(maxsize=1)(gguf.get_tensor_name_map)),
    ):
        try:
            metadata, tensors = read_gguf_metadata(source)
            config = transformers.AutoConfig.from_pretrained(nothing, gguf_file=source, trust_remote_code=False)
            tokenizer = transformers.AutoTokenizer.from_pretrained(nothing, gguf_file=source, trust_remote_code=False)
            parts = gguf.GGUFReader(source).tensors
            factors = [part.data.tolist() for part in parts if part.name == FREQUENCIES]
        except Exception as error:
            raise PermeationError(f"{file.name} cannot be read as GGUF: {one_line(error)}") from error
        check_family(config)
        _carry(metadata, config)
        _derive(config, tensors, factors)
        model = read_weights(nothing, config, name, gguf=source)
        kind = loader.TENSOR_PROCESSORS.get(metadata["general.architecture"], loader.TensorProcessor)
        placed = loader.get_gguf_hf_weights_map(model, kind(config=config.to_dict()))
    if left := sorted(set(tensors) - placed.keys() - {FREQUENCIES}):
        raise PermeationError(f"{name} has no place in transformers for {left[0]}, which is among its weights")
    model.hf_quantizer = None  # save_pretrained refuses what came out of a GGUF file
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    attention = [part for part in parts if part.name.endswith(ATTENTION)]
    bits = 8 * sum(int(part.n_bytes) for part in attention) / sum(int(part.n_elements) for part in attention)
    return bits if bits < 16 else None


def _carry(metadata: Mapping[str, Any], config: Any) -> None:
    """Put what a file says of its architecture into the configuration; raises for what has no place there."""
    prefix = metadata["general.architecture"] + "."
    said = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    said = {key: value for key, value in said.items() if key not in SILENT and (key, value) not in NEUTRAL}
    _carry_positions(said, config)
    d_head = config.hidden_size // config.num_attention_heads
    implied = {
        "attention.key_length": d_head,
        "attention.value_length": d_head,
        "attention.head_count_kv": config.num_attention_heads,
        "feed_forward_length": 4 * config.hidden_size,
        "context_length": said.get("context_length"),  # BLOOM's positions have no end
    }
    for key, value in said.items():
        values = set(value) if isinstance(value, list) else {value}
        own = (key.removeprefix("attention."),)
        name = next((name for name in CARRIED.get(key, own) if hasattr(config, name)), None)
        if len(values) == 1 and name is not None:
            setattr(config, name, values.pop())
        elif values != {implied.get(key)}:
            found = f"the GGUF file says {prefix}{key} = {value!r}"
            raise PermeationError(f"{found}, which has no place in {config.model_type}")


def _carry_positions(said: dict[str, Any], config: Any) -> None:
    """The same for rotating positions; takes out of `said` what has a place."""
    whole = getattr(config, "rope_parameters", None) or {}
    parameters = whole.get("full_attention", whole)  # Gemma 3 has others for its sliding windows
    if "rope.freq_base_swa" in said and "sliding_attention" in whole:
        whole["sliding_attention"]["rope_theta"] = said.pop("rope.freq_base_swa")
    places = {"rope.freq_base": "rope_theta"} if parameters else {}
    if parameters and said.get("rope.scaling.type", "linear") in ("linear", "yarn") and "rope.scaling.factor" in said:
        said.setdefault("rope.scaling.type", "linear")  # as llama.cpp reads it
        places |= {"rope.scaling.type": "rope_type", "rope.scaling.factor": "factor"}
        places |= {"rope.scaling.original_context_length": "original_max_position_embeddings"}
    parameters |= {name: said.pop(key) for key, name in places.items() if key in said}
    d_head = said.get("attention.key_length") or config.hidden_size // config.num_attention_heads
    rotated = int(d_head * parameters.get("partial_rotary_factor", 1.0))
    if parameters and said.get("rope.dimension_count") == rotated:
        del said["rope.dimension_count"]
    elif "rope.dimension_count" in said and "partial_rotary_factor" in parameters:
        parameters["partial_rotary_factor"] = said.pop("rope.dimension_count") / d_head


def _derive(config: Any, tensors: Iterable[str], factors: list[list[float]]) -> None:
    """Put what a file says by its tensors and its shape alone into the configuration."""
    if hasattr(config, "attention_bias"):
        config.attention_bias = any(name.endswith("attn_q.bias") for name in tensors)
    if config.model_type in GEMMA_27B:
        large = config.num_hidden_layers == GEMMA_27B[config.model_type]
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if large else config.head_dim
    for each in factors:
        # Factors for each frequency are what transformers calls longrope, whatever rule they once came from.
        scaling = {"rope_type": "longrope", "short_factor": each, "long_factor": each, "factor": 1.0}
        end = {"attention_factor": 1.0, "original_max_position_embeddings": config.max_position_embeddings}
        config.rope_parameters |= scaling | end

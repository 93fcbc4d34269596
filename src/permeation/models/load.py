"""A fetched checkpoint: as a plain transformers model (weights, scoring) or as a TransformerBridge (hooks)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from permeation.frame.errors import PermeationError, one_line
from permeation.models.families import check_family
from permeation.models.fold import fold_norms
from permeation.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

transformers.logging.disable_progress_bar()

# Constants that old versions of transformers kept with the weights: causal masks, frequencies and numbers of positions.
CONSTANTS = re.compile(r"(attn|attention)\.(bias|masked_bias)$|inv_freq$|position_ids$|embed_positions$")


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> Any:
    """A checkpoint as a plain transformers model in float32 and evaluation mode, its weights never to be trained.

    Raises PermeationError for weights that are missing, of another shape, without a place in the model or not finite.
    """
    name = f"the model in {Path(folder).name}"
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise PermeationError(f"{name} has no usable config.json: {one_line(error)}") from error
    check_family(config)
    if getattr(config, "quantization_config", None) is not None:
        raise PermeationError(f"{name} is quantised; accepted: plain weights, or a GGUF file")
    config._attn_implementation = None  # the device decides
    return read_weights(folder, config, name).requires_grad_(False).to(device)


def read_weights(folder: Path | str, config: Any, name: str, gguf: str | None = None) -> Any:
    """The model of this configuration with the weights in a folder or a GGUF file; raises as `load_model` does."""
    if sys.flags.optimize > 1:
        raise PermeationError(
            "PYTHONOPTIMIZE is 2, which takes out the docstrings that transformers reads; accepted: 1"
        )
    options = {"config": config, "dtype": torch.float32, "gguf_file": gguf, "output_loading_info": True}
    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    auto: Any = transformers.AutoModelForCausalLM
    try:
        model, report = auto.from_pretrained(folder, **options, **safe, ignore_mismatched_sizes=True)
    except Exception as error:
        raise PermeationError(f"{name} cannot be loaded: {one_line(error)}") from error
    if lacking := sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]):
        raise PermeationError(f"{name} lacks {len(lacking)} weights, or has them in another shape: {lacking[0]}")
    if unused := sorted(key for key in report["unexpected_keys"] if not CONSTANTS.search(key)):
        raise PermeationError(f"{name} has no place by its configuration for {unused[0]}, which is among its weights")
    for key, parameter in model.named_parameters():
        if not torch.stack(torch.aminmax(parameter)).isfinite().all():  # ten times as fast as isfinite over all
            raise PermeationError(f"{name} has values that are not finite in {key}")
    return model


def load_folded(folder: Path | str, fold_norm: bool, device: torch.device | str = "cpu") -> Any:
    """The checkpoint as the weight axis looks at it and writes into it: with or without the norms folded in."""
    model = load_model(folder, device)
    if fold_norm:
        fold_norms(model)
    return model


def load_bridge(folder: Path | str, device: torch.device | str = "cpu") -> TransformerBridge:
    """The checkpoint as a TransformerBridge in float32: same weights, with hooks on every activation."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        str(folder), hf_model=load_model(folder, device), tokenizer=load_tokenizer(folder), device=str(device)
    )

"""A fetched checkpoint: as a plain transformers model (weights, scoring) or as a TransformerBridge (hooks)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from permeation.frame.errors import PermeationError, one_line
from permeation.models.fold import fold_norms
from permeation.models.guard import LAYER, check_finite, read_config, skeleton, weight_shapes
from permeation.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


transformers.logging.disable_progress_bar()


def load_model(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A fetched checkpoint as a plain transformers model in evaluation mode, its weights never to be trained.

    Raises PermeationError for a family that is not supported, for a damaged file and for weights that are missing or
    not finite.
    """
    config, name = read_config(folder), f"the model in {folder.name}"
    skeleton(config, weight_shapes(folder), name)
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


def load_folded(folder: Path, fold_norm: bool, device: torch.device) -> Any:
    """The checkpoint as the weight axis looks at it and writes into it: with or without the norms folded in."""
    model = load_model(folder, device)
    if fold_norm:
        fold_norms(model)
        check_finite(model)  # a product of finite numbers need not be
    return model


def load_bridge(folder: Path, device: torch.device) -> TransformerBridge:
    """The checkpoint as a TransformerBridge in float32: same weights, with hooks on every activation.

    The bridge rebuilds the model it is given in place, so it gets one of its own.
    """
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        str(folder), hf_model=load_model(folder, device), tokenizer=load_tokenizer(folder), device=str(device)
    )

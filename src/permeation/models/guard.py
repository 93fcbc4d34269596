"""What is asked of a checkpoint's files before and after they are loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import AttentionInterface

from permeation.frame.errors import PermeationError, one_line
from permeation.frame.tables import read_json
from permeation.models.families import check_family

Shapes = Mapping[str, Sequence[int]]


WEIGHTS = "model.safetensors"


LAYER = re.compile(r"(?:^|\.)(\d+)\.")  # in the name of a weight


DEPTHS = ("num_hidden_layers", "num_layers", "n_layer")  # what families call their number of blocks


# What a config.json may say to make transformers read other files (with torch.load, too) or run a hub's kernels.
DETOURS = {
    "transformers_weights": "weights in the folder's own model.safetensors",
    "quantization_config": "plain, unquantised weights",
    "attn_implementation": "an attention of transformers' own, or none named",
    "_attn_implementation": "an attention of transformers' own, or none named",
}


def skeleton(config: Any, shapes: Shapes, name: str) -> Any:
    """The model that a configuration describes, with weights that take no memory.

    `shapes` are those of the tensors that will fill it. Raises PermeationError where they have another number of layers
    or hold less than half of the model's numbers: transformers would take the memory first, and only then say which
    are missing.
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


def check_finite(model: Any) -> None:
    """Raise PermeationError that names the first parameter with a NaN or an infinity in it."""
    for name, parameter in model.named_parameters():
        # aminmax passes over the numbers once and keeps a NaN; isfinite over all of them takes ten times as long.
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
    own = {"eager", *AttentionInterface().valid_keys()}
    for key, accepted in DETOURS.items():
        value = said.get(key)
        if value is not None and not ("attn" in key and isinstance(value, str) and value in own):
            raise PermeationError(f"{name} has {key} in its config.json ({value!r}); accepted: {accepted}")
    # This comes before the configuration is made: Qwen2's holds an entry for each layer.
    check_layers([said[key] for key in DEPTHS if key in said], weight_shapes(folder), name)
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            num_labels=2,  # a classifier's file may ask for any number, and transformers makes a dictionary of it
        )
        config._attn_implementation = None  # the device decides
    except Exception as error:
        raise PermeationError(f"{name} has no usable config.json: {one_line(error)}") from error
    check_family(config.model_type, config)
    return config


def weight_shapes(folder: Path) -> Shapes:
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

"""The weights of many models of one shape, layer by layer.

X is the weight of a linear layer, outputs × inputs; GPT-2's W_Q, W_K and W_V, a fused projection, are one. An adapter's
X is its update, W − W_base. The models are read one after the other into files; then each X of all models is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.frame.progress import each
from permeation.models.families import blocks
from permeation.models.load import load_model
from permeation.universal.align import align

NO_TEXT = torch.empty(0, 0, dtype=torch.long)


@dataclass(frozen=True)
class Member:
    """One model.

    Attributes:
        name: as in tables. folder: its checkpoint, or its adapter. base: the checkpoint that an adapter is of.
        windows: the text that it is measured on.
        seed: of an untrained model of the checkpoint's shape. like: the model that it is aligned to.
    """

    name: str
    folder: Path
    base: Path | None = None
    windows: Int[Tensor, "windows context"] = NO_TEXT
    seed: int | None = None
    like: Member | None = None

    def load(self, device: torch.device | str = "cpu") -> Any:
        """The model; an adapter is merged into its base."""
        if self.seed is not None:
            torch.manual_seed(self.seed)
            config = transformers.AutoConfig.from_pretrained(self.folder)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            model = load_model(self.base or self.folder)
        if self.base is not None:
            with warnings.catch_warnings(action="ignore"):  # peft asks transformers in an old way
                model = PeftModel.from_pretrained(model, str(self.folder)).merge_and_unload()
        if self.like is not None:
            align(model, self.like.load())
        return model.eval().requires_grad_(False).to(device)


def layers(model: Any) -> dict[str, Any]:
    """The linear layers of a model's blocks by name, as 0.self_attn.q_proj."""
    parts = ((f"{i}.{name}", part) for i, block in enumerate(blocks(model)) for name, part in block.named_modules())
    return {name: part for name, part in parts if isinstance(part, nn.Linear | Conv1D)}


def weight(layer: Any) -> Float[Tensor, "outputs inputs"]:
    """X, a view of the layer's parameter."""
    return layer.weight.T if isinstance(layer, Conv1D) else layer.weight


@dataclass(frozen=True)
class Stack:
    """Every X of all models: a file of each model, and the layers' names, without those that no adapter changes."""

    files: Sequence[Path]
    keys: Sequence[str]

    @classmethod
    def read(cls, members: Sequence[Member], folder: Path) -> Stack:
        """Read the models one after the other; raises PermeationError where one has another shape."""
        folder.mkdir(parents=True)
        files = [folder / f"{i}.safetensors" for i in range(len(members))]
        shapes: dict[str, torch.Size] = {}
        base = layers(load_model(members[0].base)) if members[0].base else {}
        for member, file in each(zip(members, files, strict=True), f"weights, {folder.name}", len(members)):
            found = {key: weight(layer) for key, layer in layers(member.load()).items()}
            if base:
                found = {key: X for key, W in found.items() if (X := W - weight(base[key])).any()}
            own = {key: X.shape for key, X in found.items()}
            shapes = shapes or own
            if own != shapes:
                raise PermeationError(f"universal.models: {member.name} has another shape than {members[0].name}")
            save_file({key: X.contiguous() for key, X in found.items()}, file)
        return cls(files, list(shapes))

    def __getitem__(self, key: str) -> Float[Tensor, "models outputs inputs"]:
        """One X of all models."""
        return torch.stack([safe_open(file, "pt").get_tensor(key) for file in self.files])


@torch.inference_mode()
def input_moments(
    model: Any, windows: Int[Tensor, "windows context"], keys: Iterable[str]
) -> dict[str, Float[Tensor, "inputs inputs"]]:
    """E x xᵀ over tokens, in float64, of what these layers read."""
    totals: dict[str, Any] = dict.fromkeys(keys, 0.0)
    found = layers(model)

    def add(key: str, _module: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2).double()
        totals[key] = totals[key] + (x.T @ x).cpu() / windows.numel()

    with ExitStack() as hooks, fast_products():
        for key in totals:
            hooks.callback(found[key].register_forward_pre_hook(partial(add, key)).remove)
        for window in windows.to(model.device).split(1):
            model.base_model(window, use_cache=False)
    return totals

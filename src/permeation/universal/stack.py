"""The weights of many models of one shape, matrix by matrix.

A matrix X is (outputs, inputs), as it multiplies what the layer reads: W_Q, W_K and W_V with their heads one below the
other, W_O with them side by side, the MLP's as they are. An adapter's is its update, W − W_base.
The models are read one after the other into files; each matrix of all models is then looked at by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.frame.progress import each
from permeation.models.families import attention_outputs, attention_views, blocks
from permeation.models.load import load_model

Key = tuple[int, str]  # layer and kind of matrix


@dataclass(frozen=True)
class Member:
    """A checkpoint's folder; an adapter's, with its base; with a seed, an untrained model of a checkpoint's shape."""

    name: str
    folder: Path
    base: Path | None = None
    seed: int | None = None

    def load(self, device: torch.device | str = "cpu") -> Any:
        """The model, an adapter merged into its base."""
        if self.seed is not None:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                config = transformers.AutoConfig.from_pretrained(self.folder)
                model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            return model.eval().requires_grad_(False).to(device)
        if self.base is None:
            return load_model(self.folder, device)
        from peft import PeftModel

        with warnings.catch_warnings(action="ignore"):  # peft asks transformers in an old way
            adapted = PeftModel.from_pretrained(load_model(self.base, device), str(self.folder))
        return adapted.merge_and_unload().eval().requires_grad_(False)


@dataclass(frozen=True)
class Matrix:
    """One matrix in a model; writing changes the model.

    Attributes:
        key: layer and kind. reader: the module whose input it multiplies. view: of the model's parameter.
    """

    key: Key
    reader: nn.Module
    view: Float[Tensor, "heads inputs outputs"]

    def read(self) -> Float[Tensor, "outputs inputs"]:
        """The matrix."""
        return self.view.mT.flatten(0, 1)

    @torch.no_grad()
    def write(self, X: Float[Tensor, "outputs inputs"]) -> None:
        """Put another matrix in its place."""
        self.view.copy_(X.unflatten(0, (len(self.view), -1)).mT)


def matrices(model: Any) -> Iterator[Matrix]:
    """All weight matrices of a model's blocks, first block first."""
    parts = zip(blocks(model), attention_views(model), attention_outputs(model), strict=True)
    for layer, (block, reads, writes) in enumerate(parts):
        for kind, view in (("W_Q", reads.W_Q), ("W_K", reads.W_K), ("W_V", reads.W_V)):
            yield Matrix((layer, kind), reads.reads, view)
        yield Matrix((layer, "W_O"), writes.projection, writes.W_O.flatten(0, 1)[None])
        attention = {*reads.projections, writes.projection}
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear | Conv1D) and module not in attention:
                weight = module.weight.T if isinstance(module, nn.Linear) else module.weight
                yield Matrix((layer, name.rpartition(".")[2]), module, weight[None])


@dataclass(frozen=True)
class Stack:
    """Every matrix of all models, in files of a folder.

    Attributes:
        members: the models, in order. shapes: by layer and kind, without the matrices that no adapter changes.
    """

    members: tuple[Member, ...]
    folder: Path
    shapes: dict[Key, torch.Size]

    @classmethod
    def read(cls, members: Sequence[Member], folder: Path) -> Stack:
        """Read the models one after the other; raises PermeationError where one has another shape."""
        folder.mkdir(parents=True)
        stack = cls(tuple(members), folder, {})
        bases = {m.key: m.read() for m in matrices(load_model(base))} if (base := members[0].base) else {}
        for i, member in enumerate(each(members, f"weights, {folder.name}", len(members))):
            found = {m.key: m.read() - bases.get(m.key, 0) for m in matrices(member.load())}
            for key, X in found.items():
                if key not in stack.shapes and X.any() and (i == 0 or bases):
                    stack.shapes[key] = X.shape
                    np.lib.format.open_memmap(stack._file(key), "w+", np.float32, (len(members), *X.shape))
                if stack.shapes.get(key) == X.shape:
                    np.load(stack._file(key), mmap_mode="r+")[i] = X
            if any(key not in found or found[key].shape != shape for key, shape in stack.shapes.items()):
                raise PermeationError(f"universal.models: {member.name} has another shape than {members[0].name}")
        return stack

    def __getitem__(self, key: Key) -> Float[Tensor, "models outputs inputs"]:
        """One matrix of all models."""
        return torch.from_numpy(np.load(self._file(key)))

    def _file(self, key: Key) -> Path:
        return self.folder / f"{key[0]}.{key[1]}.npy"


@torch.inference_mode()
def input_moments(
    model: Any, windows: Int[Tensor, "windows context"], keys: Iterable[Key]
) -> dict[Key, Float[Tensor, "inputs inputs"]]:
    """E x xᵀ over tokens, in float64, of what these matrices multiply."""
    totals: dict[Key, Any] = dict.fromkeys(keys, 0.0)

    def add(key: Key, _module: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2).double()
        totals[key] = totals[key] + (x.T @ x).cpu() / windows.numel()

    with ExitStack() as hooks, fast_products():
        for matrix in matrices(model):
            if matrix.key in totals:
                hooks.callback(matrix.reader.register_forward_pre_hook(partial(add, matrix.key)).remove)
        for window in windows.to(model.device).split(1):
            model.base_model(window, use_cache=False)
    return totals

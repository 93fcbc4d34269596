"""The heads' W_Q and W_K, and the gram form W_Qᵀ W_K of W_QK."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from permeation.models.families import attention_outputs, attention_views

QK = ("W_Q", "W_K", "b_Q", "b_K")


@dataclass(frozen=True)
class Heads:
    """All attention heads' query and key weights, by layer; biases are None in families without them.

    W_V, W_O and b_V are there where all of attention is meant, else None.
    """

    W_Q: Float[Tensor, "layers heads d_model d_head"]
    W_K: Float[Tensor, "layers kv_heads d_model d_head"]
    b_Q: Float[Tensor, "layers heads d_head"] | None = None
    b_K: Float[Tensor, "layers kv_heads d_head"] | None = None
    W_V: Float[Tensor, "layers kv_heads d_model d_head"] | None = None
    W_O: Float[Tensor, "layers heads d_head d_model"] | None = None
    b_V: Float[Tensor, "layers kv_heads d_head"] | None = None

    @property
    def count(self) -> int:
        """n: query heads in the model."""
        return self.W_Q.shape[0] * self.W_Q.shape[1]

    @property
    def queries(self) -> Float[Tensor, "n d_model d_head"]:
        """W_Q of every head, layer by layer."""
        return self.W_Q.flatten(0, 1)

    @property
    def keys(self) -> Float[Tensor, "n d_model d_head"]:
        """W_K of the key head that each query head pairs with: i // (n_heads / n_kv_heads) within its layer."""
        group = self.W_Q.shape[1] // self.W_K.shape[1]
        return self.W_K.repeat_interleave(group, dim=1).flatten(0, 1)

    @classmethod
    def read(cls, folder: Path, device: str = "cpu", name: str = "heads", whole: bool = False) -> Heads:
        """The heads that `write` left in a folder; `whole`: with W_V, W_O and b_V."""
        with safe_open(folder / f"{name}.safetensors", "pt", device) as opened:
            return cls(**{key: opened.get_tensor(key) for key in opened.keys() if whole or key in QK})  # noqa: SIM118

    def write(self, folder: Path, name: str = "heads") -> None:
        """Write <name>.safetensors, the weights by name."""
        save_file({key: W.contiguous() for key, W in self.tensors().items()}, folder / f"{name}.safetensors")

    def tensors(self) -> dict[str, Tensor]:
        """The weights that there are, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def to(self, dtype: torch.dtype) -> Heads:
        """The heads with numbers of this type."""
        return Heads(**{name: tensor.to(dtype) for name, tensor in self.tensors().items()})

    def part(self, layers: slice) -> Heads:
        """The heads of some layers."""
        return Heads(**{name: tensor[layers] for name, tensor in self.tensors().items()})

    def layers(self) -> Iterator[Heads]:
        """The heads of one layer after the other, in float64: W_Q is (1, heads, d_model, d_head)."""
        return (self.part(slice(i, i + 1)).to(torch.float64) for i in range(len(self.W_Q)))


def read_heads(model: Any, whole: bool = False) -> Heads:
    """Copies of the heads' weights, on the CPU, as the model holds them: with folded norms if it was folded.

    whole: W_V, W_O and b_V as well.
    """
    layers = list(attention_views(model))
    named = {name: [getattr(layer, name) for layer in layers] for name in (*QK, *(("W_V", "b_V") if whole else ()))}
    if whole:
        named["W_O"] = [layer.W_O for layer in attention_outputs(model)]
    return Heads(**{name: torch.stack(of).detach().cpu() for name, of in named.items() if of[0] is not None})


def writing_heads(heads: Heads) -> Heads:
    """Heads whose W_QK is W_OVᵀ = W_Oᵀ W_Vᵀ: W_Oᵀ as W_Q, W_V as W_K.

    A bias of W_V moves what is written by a constant and stays out.
    """
    assert heads.W_O is not None and heads.W_V is not None
    return Heads(heads.W_O.mT, heads.W_V)


def biases_as_rows(heads: Heads) -> Heads:
    """W_Q and W_K with their bias as one more row, for inputs with a 1 appended; without biases, the heads."""
    if heads.b_Q is None or heads.b_K is None:
        return heads
    sides = ((heads.W_Q, heads.b_Q), (heads.W_K, heads.b_K))
    return Heads(*(torch.cat([W, b[:, :, None]], dim=2) for W, b in sides))


def gram_form(heads: Heads) -> Float[Tensor, "n d_head d_head"]:
    """W_Qᵀ W_K of every head in float64 (docs/weights.md, Forms of W_QK).

    Not a property of the model: W_Q R and W_K R with the same orthogonal R give the same attention and
    Rᵀ W_Qᵀ W_K R here.
    """
    return torch.cat([layer.queries.mT @ layer.keys for layer in heads.layers()])


def each_layer(
    M: Float[Tensor, "layers d d"], W: Float[Tensor, "layers *heads d k"]
) -> Float[Tensor, "layers *heads d k"]:
    """M W with each layer's M for all of its heads; a broadcast product would copy M for every head."""
    return torch.einsum("lij,l...jk->l...ik", M, W)


def gathered(each: Iterable[Sequence[Tensor]], layers: int) -> list[Tensor]:
    """The tensors that each layer has, (1, …), put together to (layers, …), one layer at a time.

    torch.cat would hold everything twice.
    """
    whole: list[Tensor] = []
    for i, parts in enumerate(each):
        whole = whole or [part.new_empty(layers, *part.shape[1:]) for part in parts]
        for tensor, part in zip(whole, parts, strict=True):
            tensor[i] = part[0]
    return whole

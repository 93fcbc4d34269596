"""Layers as they are stored, and one file that holds nothing else: its size is the bits that are counted.

    W = diag(rows) Rᵀ Q + P Bᵀ,  with Q, P, B rounded to a few bits; each method has some of these parts

The file is safetensors. Of Q, P and B it has `<part>.q`, b bits an integer, the highest first, each layer from a new
byte on; `<part>.scale` and `<part>.offset` in bfloat16; and `rows`, `b_Q`, `b_K` in bfloat16. Its metadata say what is
how large. R is drawn from the seed in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from permeation.rivals.low_rank import from_layer_matrices
from permeation.rivals.rounding import Codes
from permeation.weights.heads import Heads

PARTS = ("Q", "P", "B")


@dataclass(frozen=True)
class Layer:
    """What is stored of a layer's W_Q and W_K, side by side as (d_model, columns).

    Attributes:
        Q: of the size of W. rows: the scales of its rows, (d_model, 1). rotation: R, drawn from a seed.
        P: (d_model, rank). B: (columns, rank).
    """

    Q: Codes | None = None
    rows: Float[Tensor, "d_model 1"] | None = None
    rotation: Float[Tensor, "d_model d_model"] | None = None
    P: Codes | None = None
    B: Codes | None = None

    def matrix(self) -> Float[Tensor, "1 d_model columns"]:
        """W as it is read back, in float64."""
        W = torch.zeros(1, 1, 1, dtype=torch.float64)
        if self.Q is not None:
            Q = self.Q.values() if self.rotation is None else self.rotation.mT @ self.Q.values()
            W = (Q if self.rows is None else self.rows * Q)[None]
        if self.P is not None and self.B is not None:
            W = W + self.P.values()[None] @ self.B.values()[None].mT
        return W


class Stored:
    """For rivals that say how each layer is stored."""

    heads: Heads  # the untouched weights

    def stored(self, size: int) -> Iterator[Layer]:
        """One layer after the other."""
        raise NotImplementedError

    def apply(self, size: int) -> Heads:
        """The layers as they are read back."""
        return from_layer_matrices((layer.matrix() for layer in self.stored(size)), self.heads)


def random_rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """A random orthogonal matrix in float64, by the QR decomposition of Gaussian numbers."""
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q


def write_packed(rival: Stored, size: int, seed: int, file: Path) -> None:
    """Write what the rival stores at this size, and nothing else."""
    layers, heads = list(rival.stored(size)), rival.heads
    said: dict[str, Any] = {"W_Q": heads.W_Q.shape, "seed": None if layers[0].rotation is None else seed}
    tensors = {name: b.bfloat16() for name, b in (("b_Q", heads.b_Q), ("b_K", heads.b_K)) if b is not None}
    if layers[0].rows is not None:
        tensors["rows"] = torch.stack([layer.rows for layer in layers if layer.rows is not None]).bfloat16()
    for name in PARTS:
        each = [codes for layer in layers if (codes := getattr(layer, name)) is not None]
        if not each:
            continue
        said[name] = {"rows": len(each[0].q)} | {key: getattr(each[0], key) for key in ("bits", "zero", "group")}
        tensors[f"{name}.q"] = torch.stack([_pack(codes.q, codes.bits) for codes in each])
        for part in ("scale", "offset"):
            if getattr(each[0], part) is not None:
                tensors[f"{name}.{part}"] = torch.stack([getattr(codes, part) for codes in each]).bfloat16()
    save_file(tensors, file, metadata={"stored": json.dumps(said)})


def read_packed(file: Path | str) -> Heads:
    """The weights in a file of `write_packed`, to the last bit those of `apply`; biases as bfloat16 holds them."""
    with safe_open(file, "pt") as opened:
        said = json.loads(opened.metadata()["stored"])
    tensors = {name: T if T.dtype == torch.uint8 else T.double() for name, T in load_file(file).items()}
    n_layers, n_heads, d_model, d_head = said["W_Q"]
    generator = None if said["seed"] is None else torch.Generator().manual_seed(said["seed"])

    def codes(name: str, i: int) -> Codes | None:
        if name not in said:
            return None
        facts = dict(said[name])
        rows = facts.pop("rows")
        packed, scale = tensors[f"{name}.q"][i], tensors[f"{name}.scale"][i]
        offset = tensors[f"{name}.offset"][i] if f"{name}.offset" in tensors else None
        return Codes(_unpack(packed, facts["bits"])[: rows * scale.shape[1]].view(rows, -1), scale, offset, **facts)

    def layer(i: int) -> Layer:
        Q, P, B = (codes(name, i) for name in PARTS)
        rows = tensors["rows"][i] if "rows" in tensors else None
        return Layer(Q, rows, None if generator is None else random_rotation(d_model, generator), P, B)

    biases = {name: tensors[name].float() for name in ("b_Q", "b_K") if name in tensors}
    shape = torch.empty(n_layers, n_heads, d_model, d_head, device="meta")
    return from_layer_matrices((layer(i).matrix() for i in range(n_layers)), Heads(shape, shape, **biases))


def _pack(q: Int[Tensor, "rows columns"], bits: int) -> UInt8[Tensor, "bytes"]:
    each = np.unpackbits(q.numpy().astype(np.uint8).reshape(-1, 1), axis=1)
    return torch.from_numpy(np.packbits(each[:, 8 - bits :]))


def _unpack(packed: UInt8[Tensor, "bytes"], bits: int) -> Int[Tensor, "numbers"]:
    flat = np.unpackbits(packed.numpy())
    each = flat[: len(flat) // bits * bits].reshape(-1, bits).astype(np.int32)
    return torch.from_numpy(each @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int32)))

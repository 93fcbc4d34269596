"""W_Q and W_K as other tools store them: blocks of numbers that share a scale, rounded by those tools' own packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import gguf
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.rivals.base import BITS_PER_NUMBER, Problem, bias_parameters
from permeation.rivals.low_rank import from_layer_matrices, layer_matrices
from permeation.rivals.rounding import stored_scale
from permeation.weights.heads import Heads

NF4_BLOCK = 64


@dataclass(frozen=True)
class Blocks:
    """Each column of W in blocks of d_model; there is one size, the type's whole bits.

    llama.cpp's types, by `gguf`: Q4_0 and Q8_0, w = s q; Q4_1 and Q5_1, w = s q + m; s and m in float16. NF4, by
    `bitsandbytes`: w = s q, q one of 16 quantiles of a Gaussian, s in float32 (Dettmers et al. 2023). A file holds W
    with the norm's scales apart; here they are in W. `rows` divides them out before, as in Integers. Biases stay.

    Stored: a block's bytes (4.5, 8.5, 5 and 6 bits a number; NF4 4.5); 16 bits a bias, and with `rows` a row.

    Attributes:
        heads: the untouched weights. bits: of a number. rounded: what the package makes of columns. rows: as above.
    """

    heads: Heads
    bits: float
    rounded: Callable[[Tensor], Tensor]
    rows: bool
    smallest: int
    largest: int

    @classmethod
    def fit(cls, problem: Problem, kind: str, rows: bool = False) -> Blocks:
        """Nothing to fit; raises PermeationError without the package, and where d_model is not whole blocks."""
        if kind == "NF4":
            if find_spec("bitsandbytes") is None:
                raise PermeationError("nf4 needs the package bitsandbytes, which is not installed")
            block, taken, rounded = NF4_BLOCK, NF4_BLOCK // 2 + 4, _nf4
        else:
            block, taken = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
            rounded = partial(_gguf, gguf.GGMLQuantizationType[kind])
        if (d_model := problem.heads.W_Q.shape[2]) % block:
            raise PermeationError(f"{kind} has blocks of {block}, and d_model is {d_model}")
        size = int(kind.strip("QNF")[0])
        return cls(problem.heads, 8 * taken / block, rounded, rows, size, size)

    def stored_bits(self, size: int) -> int:  # noqa: ARG002 (there is one)
        heads = self.heads
        scales = heads.W_Q.shape[0] * heads.W_Q.shape[2] if self.rows else 0
        numbers = heads.W_Q.numel() + heads.W_K.numel()
        return int(self.bits * numbers) + BITS_PER_NUMBER * (scales + bias_parameters(heads))

    def apply(self, size: int) -> Heads:  # noqa: ARG002
        """The weights rounded, layer by layer."""
        return from_layer_matrices((self._layer(layer_matrices(layer)) for layer in self.heads.layers()), self.heads)

    def _layer(self, W: Float[Tensor, "1 d_model columns"]) -> Float[Tensor, "1 d_model columns"]:
        by = stored_scale(W.square().mean(2, keepdim=True).sqrt()) if self.rows else torch.ones_like(W[:, :, :1])
        return by * self.rounded((W / torch.where(by > 0, by, 1)).mT.float().contiguous()).mT


def _gguf(kind: gguf.GGMLQuantizationType, columns: Tensor) -> Tensor:
    return torch.from_numpy(gguf.dequantize(gguf.quantize(columns.numpy(), kind), kind))


def _nf4(columns: Tensor) -> Tensor:
    functional: Any = __import__("bitsandbytes").functional
    return functional.dequantize_4bit(*functional.quantize_4bit(columns, blocksize=NF4_BLOCK, quant_type="nf4"))

"""W_Q and W_K as llama.cpp stores them: blocks of 32 numbers that share a scale, rounded by its `gguf` package."""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import torch
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.rivals.base import BITS_PER_NUMBER, Problem, bias_parameters
from permeation.rivals.low_rank import from_layer_matrices, layer_matrices
from permeation.rivals.rounding import stored_scale
from permeation.weights.heads import Heads


@dataclass(frozen=True)
class GgufBlocks:
    """Each column of W in blocks of d_model, of one of GGUF's types; there is one size, the type's whole bits.

    Q4_0 and Q8_0: w = s q. Q4_1 and Q5_1: w = s q + m. s and m are float16. A file holds W with the norm's scales
    apart; here they are in W. `rows` divides them out before, as in Integers. Biases stay.

    Stored: a block's bytes (4.5, 8.5, 5 and 6 bits a number); 16 bits a bias, and with `rows` a row.

    Attributes:
        heads: the untouched weights. kind: the type. rows: as above.
    """

    heads: Heads
    kind: gguf.GGMLQuantizationType
    rows: bool
    smallest: int
    largest: int

    @classmethod
    def fit(cls, problem: Problem, kind: str, rows: bool = False) -> GgufBlocks:
        """Nothing to fit; raises PermeationError where d_model is not whole blocks, for which GGUF has no such type."""
        of, bits = gguf.GGMLQuantizationType[kind], int(kind[1])
        block, d_model = gguf.GGML_QUANT_SIZES[of][0], problem.heads.W_Q.shape[2]
        if d_model % block:
            raise PermeationError(f"GGUF's {kind} has blocks of {block}, and d_model is {d_model}")
        return cls(problem.heads, of, rows, bits, bits)

    def stored_bits(self, size: int) -> int:  # noqa: ARG002 (there is one)
        heads = self.heads
        block, taken = gguf.GGML_QUANT_SIZES[self.kind]
        scales = heads.W_Q.shape[0] * heads.W_Q.shape[2] if self.rows else 0
        numbers = heads.W_Q.numel() + heads.W_K.numel()
        return 8 * taken * numbers // block + BITS_PER_NUMBER * (scales + bias_parameters(heads))

    def apply(self, size: int) -> Heads:  # noqa: ARG002
        """The weights rounded, layer by layer."""
        return from_layer_matrices((self._rounded(layer_matrices(layer)) for layer in self.heads.layers()), self.heads)

    def _rounded(self, W: Tensor) -> Tensor:
        by = stored_scale(W.square().mean(2, keepdim=True).sqrt()) if self.rows else torch.ones_like(W[:, :, :1])
        columns = (W / torch.where(by > 0, by, 1)).mT.float().contiguous().numpy()
        return by * torch.from_numpy(gguf.dequantize(gguf.quantize(columns, self.kind), self.kind)).mT

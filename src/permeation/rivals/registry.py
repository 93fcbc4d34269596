"""All rivals by the name that params.yaml calls them.

A rival is a class of this room with a `fit(problem, **options)`. It is imported only where it is fitted, so that
reading params.yaml stays quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from permeation.rivals.base import Problem, Rival


@dataclass(frozen=True)
class Method:
    """A way to store W_Q and W_K.

    Attributes:
        place: the class that fits it, as `module:Class` of permeation.rivals. options: arguments of its `fit`.
    """

    place: str
    options: dict[str, Any] = field(default_factory=dict)

    def fit(self, problem: Problem) -> Rival:
        """The fitted rival: of W_Q and W_K, or of all of attention where the problem has what W_O reads."""
        if problem.written is not None:
            return resolve_name("permeation.rivals.whole:WholeAttention").fit(self, problem)
        return resolve_name(f"permeation.rivals.{self.place}").fit(problem, **self.options)


GRAM = "mixing:GramMixing"
LAYER = "low_rank:LayerSubspace"
INTEGERS, RESIDUAL = "quantised:Integers", "residual:IntegersAndResidual"
BLOCKS = "blocks:Blocks"
GROUPS = {"group": 64, "offset": True}

METHODS: dict[str, Method] = {
    # Integers.
    "int_column": Method(INTEGERS),
    "int_rows": Method(INTEGERS, {"rows": True}),
    "int_g64_offset": Method(INTEGERS, GROUPS),
    "int_g64_offset_gptq": Method(INTEGERS, {"way": "gptq", "clip": True, **GROUPS}),
    "int_g64_offset_rows": Method(INTEGERS, {"rows": True, **GROUPS}),
    "int_g64_offset_rotated": Method(INTEGERS, {"way": "rotated", **GROUPS}),
    "int_g64_offset_rows_rotated": Method(INTEGERS, {"way": "rotated", "rows": True, **GROUPS}),
    "int_g64_offset_awq": Method(INTEGERS, {"way": "awq", **GROUPS}),
    # What llama.cpp's files have, and bitsandbytes.
    "gguf_q4_0": Method(BLOCKS, {"kind": "Q4_0"}),
    "gguf_q4_1": Method(BLOCKS, {"kind": "Q4_1"}),
    "gguf_q5_1": Method(BLOCKS, {"kind": "Q5_1"}),
    "gguf_q8_0": Method(BLOCKS, {"kind": "Q8_0"}),
    "gguf_q4_0_rows": Method(BLOCKS, {"kind": "Q4_0", "rows": True}),
    "gguf_q4_1_rows": Method(BLOCKS, {"kind": "Q4_1", "rows": True}),
    "nf4": Method(BLOCKS, {"kind": "NF4"}),
    "nf4_rows": Method(BLOCKS, {"kind": "NF4", "rows": True}),
    # Integers and a low rank.
    "int3_residual": Method(RESIDUAL, {"bits": 3, "rows": True, "clip": True}),
    # Low rank.
    "layer_subspace_score_6bit": Method("rounded:RoundedFactors", {"bits": 6}),
    # Layers that share, heads that share.
    "matrix_atoms": Method("atoms:MatrixAtoms"),
    "pca_gram": Method(GRAM),
    # Controls.
    "layer_subspace_random": Method(LAYER, {"metric": "random"}),
    "random_components": Method(GRAM, {"kind": "random"}),
}
LONG = tuple(METHODS)  # `rivals.methods: long`

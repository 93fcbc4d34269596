"""All rivals by the name that params.yaml calls them.

A rival is a class of this room with a `fit(problem, **options)`; it is named here once, and imported only where it is
fitted, so that reading params.yaml stays quick.
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
        place: the class that fits it, as `module:Class` of permeation.rivals. options: what its `fit` is told.
    """

    place: str
    options: dict[str, Any] = field(default_factory=dict)

    def fit(self, problem: Problem) -> Rival:
        """The fitted rival; raises PermeationError where the model does not allow it."""
        return resolve_name(f"permeation.rivals.{self.place}").fit(problem, **self.options)


MIXING, HEADS = "mixing:CircuitMixing", "low_rank:HeadRanks"
LAYER, SHARED = "low_rank:LayerSubspace", "low_rank:SharedSubspace"
CIRCUIT, TUCKER, PAIRS = "circuit_svd:CircuitRanks", "tucker:Tucker", "rotary_pairs:RotaryPairs"
INTEGERS, RESIDUAL, ROUNDED = "quantised:Integers", "residual:IntegersAndResidual", "rounded:RoundedFactors"

METHODS: dict[str, Method] = {
    "pca_gram": Method("mixing:GramComponents"),
    "pca_gram_first_kept": Method("mixing:GramComponents", {"first_kept": True}),
    "pca_circuit": Method(MIXING, {"kind": "components"}),
    "pca_score": Method(MIXING, {"kind": "components", "score": True}),
    "random_components": Method(MIXING, {"kind": "random"}),
    "mean": Method(MIXING, {"kind": "mean"}),
    "kmeans_centroid": Method(MIXING, {"kind": "centroid"}),
    "kmeans_medoid": Method(MIXING, {"kind": "medoid"}),
    "svd_plain": Method(HEADS, {"metric": "plain", "greedy": False}),
    "svd_score": Method(HEADS, {"metric": "score", "greedy": False}),
    "svd_plain_greedy": Method(HEADS, {"metric": "plain", "greedy": True}),
    "svd_score_greedy": Method(HEADS, {"metric": "score", "greedy": True}),
    "layer_subspace_plain": Method(LAYER, {"metric": "plain"}),
    "layer_subspace_score": Method(LAYER, {"metric": "score"}),
    "layer_subspace_random": Method(LAYER, {"metric": "random"}),
    "layer_ranks_score": Method(LAYER, {"metric": "score", "greedy": True}),
    "subspace_of_2_score": Method(SHARED, {"metric": "score", "layers": 2}),
    "subspace_of_5_score": Method(SHARED, {"metric": "score", "layers": 5}),
    "model_subspace_plain": Method(SHARED, {"metric": "plain"}),
    "model_subspace_score": Method(SHARED, {"metric": "score"}),
    "circuit_svd_plain": Method(CIRCUIT, {"metric": "plain", "greedy": False}),
    "circuit_svd_score": Method(CIRCUIT, {"metric": "score", "greedy": False}),
    "circuit_svd_plain_greedy": Method(CIRCUIT, {"metric": "plain", "greedy": True}),
    "circuit_svd_score_greedy": Method(CIRCUIT, {"metric": "score", "greedy": True}),
    "tucker_layer_plain": Method(TUCKER, {"group": "layer", "metric": "plain"}),
    "tucker_layer_score": Method(TUCKER, {"group": "layer", "metric": "score"}),
    "tucker_model_plain": Method(TUCKER, {"group": "model", "metric": "plain"}),
    "tucker_model_score": Method(TUCKER, {"group": "model", "metric": "score"}),
    "rotary_pairs": Method(PAIRS, {"greedy": False}),
    "rotary_pairs_greedy": Method(PAIRS, {"greedy": True}),
    "int_column": Method(INTEGERS),
    "int_column_clip": Method(INTEGERS, {"clip": True}),
    "int_rows": Method(INTEGERS, {"rows": True}),
    "int_g64_offset_rows": Method(INTEGERS, {"rows": True, "group": 64, "offset": True}),
    "int_column_gptq": Method(INTEGERS, {"compensated": True, "clip": True}),
    "int_g128": Method(INTEGERS, {"group": 128}),
    "int_g64": Method(INTEGERS, {"group": 64}),
    "int_g32": Method(INTEGERS, {"group": 32}),
    "int_g128_offset": Method(INTEGERS, {"group": 128, "offset": True}),
    "int_g64_offset": Method(INTEGERS, {"group": 64, "offset": True}),
    "int_g32_offset": Method(INTEGERS, {"group": 32, "offset": True}),
    "int_g64_clip": Method(INTEGERS, {"group": 64, "clip": True}),
    "int_g64_offset_clip": Method(INTEGERS, {"group": 64, "offset": True, "clip": True}),
    "int_g128_gptq": Method(INTEGERS, {"compensated": True, "clip": True, "group": 128}),
    "int_g64_gptq": Method(INTEGERS, {"compensated": True, "clip": True, "group": 64}),
    "int_g64_offset_gptq": Method(INTEGERS, {"compensated": True, "clip": True, "group": 64, "offset": True}),
    "int2_residual": Method(RESIDUAL, {"bits": 2, "rows": True, "clip": True, "group": 64}),
    "int3_residual": Method(RESIDUAL, {"bits": 3, "rows": True, "clip": True}),
    "int4_residual": Method(RESIDUAL, {"bits": 4, "rows": True, "clip": True}),
    "int3_gptq_residual": Method(RESIDUAL, {"bits": 3, "compensated": True, "clip": True}),
}
# Of those that are products of factors, also with the factors rounded to so many bits each.
FACTOR_BITS = (4, 6, 8)
FACTORED = (LAYER, SHARED, HEADS, CIRCUIT, TUCKER)
METHODS |= {
    f"{name}_{bits}bit": Method(ROUNDED, {"of": name, "bits": bits})
    for name, method in METHODS.items()
    if method.place in FACTORED
    for bits in FACTOR_BITS
}

# The best of each kind, and the controls: the list behind the frontier in docs/results.md.
LONG = (
    "int_column",
    "int3_residual",
    "layer_subspace_score_6bit",
    "int_column_clip",
    "int_column_gptq",
    "int_rows",
    "int_g128",
    "int_g64",
    "int_g32",
    "int_g128_offset",
    "int_g64_offset",
    "int_g32_offset",
    "int_g64_offset_clip",
    "int_g64_offset_rows",
    "int_g64_gptq",
    "int_g64_offset_gptq",
    "int2_residual",
    "int4_residual",
    "svd_score",
    "svd_score_6bit",
    "layer_subspace_score",
    "layer_subspace_score_4bit",
    "layer_subspace_score_8bit",
    "layer_ranks_score_6bit",
    "subspace_of_2_score_6bit",
    "subspace_of_5_score_6bit",
    "model_subspace_score_6bit",
    "tucker_layer_score",
    "tucker_layer_score_6bit",
    "circuit_svd_score",
    "rotary_pairs_greedy",
    "pca_score",
    "kmeans_medoid",
    "pca_gram",
    "pca_gram_first_kept",
    "layer_subspace_random",
    "random_components",
    "mean",
)

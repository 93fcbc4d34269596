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
LAYER, MODEL = "low_rank:LayerSubspace", "low_rank:ModelSubspace"
CIRCUIT, TUCKER, QUANTISED = "circuit_svd:CircuitRanks", "tucker:Tucker", "quantised:Quantised"

METHODS: dict[str, Method] = {
    "pca_gram": Method("mixing:GramComponents"),
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
    "model_subspace_plain": Method(MODEL, {"metric": "plain"}),
    "model_subspace_score": Method(MODEL, {"metric": "score"}),
    "circuit_svd_plain": Method(CIRCUIT, {"metric": "plain", "greedy": False}),
    "circuit_svd_score": Method(CIRCUIT, {"metric": "score", "greedy": False}),
    "circuit_svd_plain_greedy": Method(CIRCUIT, {"metric": "plain", "greedy": True}),
    "circuit_svd_score_greedy": Method(CIRCUIT, {"metric": "score", "greedy": True}),
    "tucker_layer_plain": Method(TUCKER, {"group": "layer", "metric": "plain"}),
    "tucker_layer_score": Method(TUCKER, {"group": "layer", "metric": "score"}),
    "tucker_model_plain": Method(TUCKER, {"group": "model", "metric": "plain"}),
    "tucker_model_score": Method(TUCKER, {"group": "model", "metric": "score"}),
    "int8": Method(QUANTISED, {"bits": 8}),
    "int4": Method(QUANTISED, {"bits": 4}),
}

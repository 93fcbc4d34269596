"""σ(l) = cos(φ(l), ê), ê = (mean_A − mean_B) / ‖mean_A − mean_B‖: how far a residual stream points to one sense.

φ(l) is the residual stream at the word after layer l; the means are over the direction prompts of senses A and B
(docs/meaning.md, Direction and σ). All computed in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations
from permeation.meaning.rows import by_layer
from permeation.meaning.words import CONDITIONS, SENSES


def contrast(
    sense_a: Float[Any, "prompts_a *layers d_model"], sense_b: Float[Any, "prompts_b *layers d_model"]
) -> Float[np.ndarray, "*layers d_model"]:
    """ê, for each layer by itself, from NumPy arrays or torch tensors.

    Two senses whose means agree, as at the embedding of one and the same token, have no direction: ê is 0 there, and
    so is every projection on it.
    """
    return unit(_float64(sense_a).mean(axis=0) - _float64(sense_b).mean(axis=0))


def order_parameter(
    residual: Float[Any, "prompts layers d_model"], directions: Float[np.ndarray, "*draws d_model"]
) -> Float[np.ndarray, "*draws prompts layers"]:
    """σ along one unit ê for all layers, for any number of directions at once: in [−1, 1]; 0 where φ or ê is 0."""
    flat = unit(_float64(residual)).reshape(-1, residual.shape[-1])
    along = directions.reshape(-1, directions.shape[-1]).astype(np.float64) @ flat.T
    return along.reshape(*directions.shape[:-1], *residual.shape[:-1])


def _float64(values: Float[Any, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The values in float64; torch converts its own tensors, for NumPy has no bfloat16."""
    return np.asarray(values.double() if hasattr(values, "double") else values, dtype=np.float64)


def unit(vectors: Float[np.ndarray, "*batch d_model"]) -> Float[np.ndarray, "*batch d_model"]:
    """Each vector over its norm; 0 stays 0."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def layer_index(layer: int, n_layers: int) -> int:
    """The layer that `sigma.direction_layer` names, from 0 (the embedding) to n_layers − 1 (the last block's output).

    Raises PermeationError where the model has no such layer.
    """
    if not -n_layers <= layer < n_layers:
        raise PermeationError(
            f"sigma.direction_layer is {layer}; accepted for this model: {-n_layers} to {n_layers - 1}"
        )
    return layer % n_layers


def check_contrast(
    word: str, sense_a: Float[np.ndarray, "prompts_a d_model"], sense_b: Float[np.ndarray, "prompts_b d_model"]
) -> None:
    """Raise PermeationError where the senses' means agree at the layer that σ takes its direction from."""
    if not contrast(sense_a, sense_b).any():
        raise PermeationError(
            f"{word!r} has no direction: at sigma.direction_layer the two senses' means agree, as they do in the "
            "embedding of one and the same token; accepted: a later layer"
        )


@dataclass(frozen=True)
class Fan:
    """σ of one word's five conditions, strong_A to strong_B, or of its two senses, mean over the prompts of each."""

    sigma: Float[np.ndarray, "conditions layers"]

    @property
    def separation(self) -> float:
        """σ(L) of the first − σ(L) of the last."""
        return float(self.sigma[0, -1] - self.sigma[-1, -1])

    @property
    def ordered(self) -> bool:
        """Whether σ(L) falls from each condition to the next; of orders at random one in 120 does."""
        return bool(np.all(np.diff(self.sigma[:, -1]) < 0))

    @property
    def order_tau(self) -> float:
        """Kendall's τ of σ(L) with the order of the conditions: 1 in order, 0 by chance, −1 reversed."""
        return float(stats.kendalltau(self.sigma[:, -1], -np.arange(len(self.sigma))).statistic)

    @property
    def collapse_variance(self) -> float:
        """How far σ(l)/h is from one curve F(l) for all conditions, in units of its square; 0: they collapse.

        Σ_l Var_h²(σ(l)/h) / Σ_l F(l)², F = Σ h σ / Σ h², h = σ(L). Mean and variance are weighted by h²: a condition
        with h near 0 says nothing about σ/h. The scale of h does not matter.
        """
        h = self.sigma[:, -1]
        curve = h @ self.sigma / np.square(h).sum()
        spread = np.square(self.sigma - np.outer(h, curve)).sum() / np.square(h).sum()
        return float(spread / np.square(curve).sum())


def measure_fans(activations: Activations, layer: int) -> dict[str, Fan]:
    """Every word's fan along the contrast of its direction prompts at `layer`.

    Raises PermeationError where a word has no contrast there.
    """
    fans = {}
    for word in activations.words:
        a, b = (activations.of(word, "direction", sense)[:, layer] for sense in SENSES)
        check_contrast(word, a, b)
        measured = [activations.of(word, "condition", condition) for condition in CONDITIONS]
        fans[word] = Fan(np.stack([order_parameter(each, contrast(a, b)).mean(axis=0) for each in measured]))
    return fans


def fan_rows(fans: Mapping[str, Fan], conditions: Sequence[str] = CONDITIONS) -> list[dict[str, Any]]:
    """A row per word, condition and layer, for plots/sigma.json."""
    return [
        row
        for word, fan in fans.items()
        for condition, sigma in zip(conditions, fan.sigma, strict=True)
        for row in by_layer({"word": word, "condition": condition}, sigma=sigma)
    ]

"""The contrast direction between two senses."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from permeation.errors import PermeationError


def layer_index(layer: int, n_layers: int) -> int:
    """The layer that `sigma.direction_layer` names, counted from 0 (the embedding) to n_layers − 1 (the last block).

    Raises PermeationError where the model has no such layer.
    """
    if not -n_layers <= layer < n_layers:
        raise PermeationError(
            f"sigma.direction_layer is {layer}; accepted for this model: {-n_layers} to {n_layers - 1}"
        )
    return layer % n_layers


def contrast(
    sense_a: Float[np.ndarray, "prompts_a *layers d_model"], sense_b: Float[np.ndarray, "prompts_b *layers d_model"]
) -> Float[np.ndarray, "*layers d_model"]:
    """ê = (mean_A − mean_B) / ‖mean_A − mean_B‖, for each layer by itself (DESIGN.md, Direction).

    A contrast of norm 0 (two senses whose means agree, as at the embedding of one and the same token) has no
    direction: its ê is 0, and so is every projection on it.
    """
    return unit(sense_a.mean(axis=0, dtype=np.float64) - sense_b.mean(axis=0, dtype=np.float64))


def check_contrast(
    word: str, sense_a: Float[np.ndarray, "prompts_a d_model"], sense_b: Float[np.ndarray, "prompts_b d_model"]
) -> None:
    """Raise PermeationError where the senses' means agree at the layer that σ takes its direction from."""
    if not contrast(sense_a, sense_b).any():
        raise PermeationError(
            f"{word!r} has no direction: at sigma.direction_layer the two senses' means agree, as they do in the "
            "embedding of one and the same token; accepted: a later layer"
        )


def unit(vectors: Float[np.ndarray, "*batch d_model"]) -> Float[np.ndarray, "*batch d_model"]:
    """Each vector over its norm; 0 stays 0."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def midpoint(
    sense_a: Float[np.ndarray, "prompts_a *layers d_model"], sense_b: Float[np.ndarray, "prompts_b *layers d_model"]
) -> Float[np.ndarray, "*layers d_model"]:
    """(mean_A + mean_B) / 2, for each layer by itself."""
    return (sense_a.mean(axis=0, dtype=np.float64) + sense_b.mean(axis=0, dtype=np.float64)) / 2

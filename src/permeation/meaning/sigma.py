"""σ: how far a residual stream points along the contrast direction between two senses."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from permeation.frame.errors import PermeationError


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


def cosine(
    vectors: Float[np.ndarray, "*batch d_model"], direction: Float[np.ndarray, "*#batch d_model"]
) -> Float[np.ndarray, "*batch"]:
    """cos(φ, ê) for a unit ê, a number in [−1, 1]; 0 where φ or ê is 0."""
    along = np.einsum("...d,...d->...", vectors, direction, dtype=np.float64)
    norm = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    return np.divide(along, norm, out=np.zeros_like(along), where=norm > 0)


def order_parameter(
    residual: Float[np.ndarray, "prompts layers d_model"], direction: Float[np.ndarray, "d_model"]
) -> Float[np.ndarray, "prompts layers"]:
    """σ(l) = cos(φ(l), ê) with one ê for all layers (DESIGN.md, σ)."""
    return cosine(residual, direction[None, None])


def centred_order_parameter(
    residual: Float[np.ndarray, "prompts layers d_model"],
    direction: Float[np.ndarray, "layers d_model"],
    midpoint: Float[np.ndarray, "layers d_model"],
) -> Float[np.ndarray, "prompts layers"]:
    """cos(φ(l) − midpoint(l), ê(l)): what remains of σ when the two senses' common part is taken out.

    A residual equal to the midpoint up to rounding (the embedding of one and the same token) counts as 0.
    """
    offset = residual.astype(np.float64) - midpoint
    offset[np.linalg.norm(offset, axis=-1) < 1e-6 * np.linalg.norm(midpoint, axis=-1)] = 0.0
    return cosine(offset, direction[None])


def describe_fan(
    sigma: Float[np.ndarray, "conditions layers"],
    sense_a: Float[np.ndarray, "prompts_a d_model"],
    sense_b: Float[np.ndarray, "prompts_b d_model"],
) -> dict[str, float | int | bool]:
    """The figures of one word's fan; conditions run from strong_A to strong_B.

    separation: σ(L) of strong_A − of strong_B. sigma_strong_a, sigma_strong_b: the two. range: largest σ − smallest,
    over conditions and layers. largest_step_layer: the block after which the separation grew most. ordered: whether
    σ(L) falls from each condition to the next. cosine_of_means: between the mean residuals of the direction prompts
    of A and of B (ê is the direction of their difference).
    """
    a, b = (sense.mean(axis=0, dtype=np.float64) for sense in (sense_a, sense_b))
    return {
        "separation": float(sigma[0, -1] - sigma[-1, -1]),
        "sigma_strong_a": float(sigma[0, -1]),
        "sigma_strong_b": float(sigma[-1, -1]),
        "range": float(np.ptp(sigma)),
        "largest_step_layer": int(np.diff(sigma[0] - sigma[-1]).argmax() + 1),
        "ordered": bool(np.all(np.diff(sigma[:, -1]) < 0)),
        "cosine_of_means": float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))),
    }

"""σ: how far along the contrast direction a residual stream points."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


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

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

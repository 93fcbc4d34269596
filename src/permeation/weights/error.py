"""How far changed heads are from the untouched ones, in each form of W_QK."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, gram_form
from permeation.weights.inner_product import whitened
from permeation.weights.moments import Moments


def relative_errors(own: Heads, changed: Heads, moments: Moments) -> dict[str, float]:
    """√(Σ_heads ‖M̂ − M‖²_F / Σ_heads ‖M‖²_F) in each form of W_QK (inner_product.FORMS).

    In the score metric this is the root of the mean squared error of attention scores over their mean square, for
    queries and keys drawn independently from the calibration text; with the mean key taken out, of their variances
    over keys.
    """
    gram = [gram_form(heads) for heads in (own, changed)]
    return {
        "gram": float((gram[1] - gram[0]).norm() / gram[0].norm()),
        "circuit": _circuit_error(own, changed),
        "score": _circuit_error(*(whitened(heads, moments) for heads in (own, changed))),
        "score_centred": _circuit_error(*(whitened(heads, moments, mean_key=False) for heads in (own, changed))),
    }


def _circuit_error(own: Heads, changed: Heads) -> float:
    """Ŵ_Q Ŵ_Kᵀ − W_Q W_Kᵀ = L Rᵀ with L = (Ŵ_Q, −W_Q) and R = (Ŵ_K, W_K)."""
    left, right = torch.cat([changed.queries, -own.queries], 2), torch.cat([changed.keys, own.keys], 2)
    return float((_squared_norm(left, right) / _squared_norm(own.queries, own.keys)).clamp(min=0).sqrt())


def _squared_norm(left: Float[Tensor, "n d k"], right: Float[Tensor, "n d k"]) -> Float[Tensor, ""]:
    """Σ ‖L Rᵀ‖²_F = Σ ⟨Lᵀ L, Rᵀ R⟩_F."""
    return ((left.mT @ left) * (right.mT @ right)).sum()

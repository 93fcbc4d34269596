"""How far changed heads are from the untouched ones, in each form of W_QK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from permeation.weights.forms import whitened
from permeation.weights.heads import Heads, gram_form
from permeation.weights.moments import Moments

# The forms that are W_Q W_Kᵀ in some coordinates, each with what puts heads into these coordinates.
CIRCUITS: dict[str, Callable[[Heads, Moments], Heads]] = {
    "circuit": lambda heads, _: heads,
    "score": whitened,
    "score_centred": partial(whitened, mean_key=False),
}


@dataclass(frozen=True)
class RelativeErrors:
    """√(Σ_heads ‖M̂ − M‖²_F / Σ_heads ‖M‖²_F) in each form of W_QK (weights.forms.FORMS), for any changed heads M̂.

    In the score metric this is the root of the mean squared error of attention scores over their mean square, for
    queries and keys drawn independently from the calibration text; with the mean key taken out, of their variances
    over keys.

    Attributes:
        own: the untouched heads by form, as they are and whitened. moments: what they are whitened with.
    """

    own: dict[str, Heads]
    moments: Moments

    @classmethod
    def fit(cls, heads: Heads, moments: Moments) -> RelativeErrors:
        """Whiten the untouched heads."""
        return cls({form: whiten(heads, moments) for form, whiten in CIRCUITS.items()}, moments)

    def of(self, changed: Heads) -> dict[str, float]:
        """The error of `changed`, by form; one form's whitened heads are in memory at a time."""
        gram, gram_changed = gram_form(self.own["circuit"]), gram_form(changed)
        return {
            "gram": float((gram_changed - gram).norm() / gram.norm()),
            **{form: _error(own, CIRCUITS[form](changed, self.moments)) for form, own in self.own.items()},
        }


def _error(own: Heads, changed: Heads) -> float:
    """‖Ĉ − C‖² = ⟨Ĉ, Ĉ⟩ − 2 ⟨Ĉ, C⟩ + ⟨C, C⟩ for C = W_Q W_Kᵀ, over ⟨C, C⟩."""
    exact = _inner(own, own)
    return float(((_inner(changed, changed) - 2 * _inner(changed, own) + exact) / exact).clamp(min=0).sqrt())


def _inner(a: Heads, b: Heads) -> Float[Tensor, ""]:
    """Σ_heads ⟨A_Q A_Kᵀ, B_Q B_Kᵀ⟩_F = Σ ⟨A_Qᵀ B_Q, A_Kᵀ B_K⟩_F."""
    return ((a.queries.mT @ b.queries) * (a.keys.mT @ b.keys)).sum()

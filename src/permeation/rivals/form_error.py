"""How far changed heads are from the untouched ones, in each form of W_QK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, biases_as_rows, each_layer, gram_form
from permeation.weights.moments import Moments

Metric = Float[Tensor, "1 d d"] | None
CIRCUIT_FORMS = ("circuit", "score", "score_centred")


@dataclass(frozen=True)
class RelativeErrors:
    """√(Σ_heads ‖M̂ − M‖²_F / Σ_heads ‖M‖²_F) in each form of W_QK (forms.FORMS), for any changed heads M̂.

    In the score metric this is the root of the mean squared error of attention scores over their mean square, for
    queries and keys drawn independently from the calibration text; with the mean key taken out, of their variances
    over keys. For M = S_Q^½ W_Q W_Kᵀ S_K^½ no root is needed: ⟨M̂, M⟩ = ⟨Ŵ_Qᵀ S_Q W_Q, Ŵ_Kᵀ S_K W_K⟩.

    Attributes:
        own: the untouched heads. moments: of what their layers read.
        squares: Σ ‖M‖²_F of the untouched heads of each layer, in each of CIRCUIT_FORMS.
    """

    own: Heads
    moments: Moments
    squares: dict[str, Float[Tensor, "layers"]]

    @classmethod
    def fit(cls, heads: Heads, moments: Moments) -> RelativeErrors:
        """What the errors are relative to."""
        squares: dict[str, list[Tensor]] = {form: [] for form in CIRCUIT_FORMS}
        for own, of_layer in zip(heads.layers(), moments.layers(), strict=True):
            for form, metric in _metrics(own, of_layer).items():
                rows = _rows(own, form)
                squares[form].append(_inner(rows, _weighted(rows, metric)))
        return cls(heads, moments, {form: torch.cat(each) for form, each in squares.items()})

    def of(self, changed: Heads) -> dict[str, float]:
        """The error of `changed`, by form."""
        gram = gram_form(self.own)
        errors = {"gram": float((gram_form(changed) - gram).norm() / gram.norm())}
        return errors | {form: self._relative(form, square) for form, square in self.squared(changed).items()}

    def within(self, form: str, changed: Heads) -> float:
        """The error of `changed` in one of CIRCUIT_FORMS."""
        return self._relative(form, self.squared(changed, (form,))[form])

    def squared(self, changed: Heads, forms: Sequence[str] = CIRCUIT_FORMS) -> dict[str, Float[Tensor, "layers"]]:
        """Σ_heads ‖M̂ − M‖²_F of each layer, by form: ‖M̂ − M‖² = ⟨M̂, M̂⟩ − 2 ⟨M, M̂⟩ + ⟨M, M⟩."""
        beyond: dict[str, list[Tensor]] = {form: [] for form in forms}
        for own, other, moments in zip(self.own.layers(), changed.layers(), self.moments.layers(), strict=True):
            metrics = _metrics(own, moments)
            for form in forms:
                rows, changed_rows = _rows(own, form), _rows(other, form)
                weighted = _weighted(changed_rows, metrics[form])
                beyond[form].append(_inner(changed_rows, weighted) - 2 * _inner(rows, weighted))
        return {form: torch.cat(each) + self.squares[form] for form, each in beyond.items()}

    def _relative(self, form: str, square: Float[Tensor, "layers"]) -> float:
        return float((square.sum() / self.squares[form].sum()).clamp(min=0).sqrt())


def _metrics(heads: Heads, moments: Moments) -> dict[str, tuple[Metric, Metric]]:
    """S_Q and S_K of a layer in each of CIRCUIT_FORMS; None is the identity."""
    bias_rows = 0 if heads.b_Q is None else 1
    S = moments.augmented if bias_rows else moments.shrunk
    centred = F.pad(moments.shrunk_covariance, (0, bias_rows) * 2)
    return {"circuit": (None, None), "score": (S, S), "score_centred": (S, centred)}


def _rows(heads: Heads, form: str) -> Heads:
    """The heads; in the score metric with their biases as one more row."""
    return heads if form == "circuit" else biases_as_rows(heads)


def _weighted(heads: Heads, metric: tuple[Metric, Metric]) -> Heads:
    """S_Q W_Q and S_K W_K."""
    sides = zip(metric, (heads.W_Q, heads.W_K), strict=True)
    return Heads(*(W if S is None else each_layer(S, W) for S, W in sides))


def _inner(a: Heads, weighted: Heads) -> Float[Tensor, "1"]:
    """Σ ⟨A_Q A_Kᵀ, B_Q B_Kᵀ⟩ = Σ ⟨A_Qᵀ S_Q B_Q, A_Kᵀ S_K B_K⟩ over a layer's heads, given B `weighted`."""
    queries, keys = a.W_Q.mT @ weighted.W_Q, a.W_K.mT @ weighted.W_K
    return (queries * keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)).sum(dim=(1, 2, 3))

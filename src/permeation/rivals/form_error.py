"""How far changed heads are from the untouched ones, in each form of W_QK."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, biases_as_rows, each_layer, gram_form
from permeation.weights.moments import Moments

Metric = Float[Tensor, "layers d d"] | None


@dataclass(frozen=True)
class RelativeErrors:
    """√(Σ_heads ‖M̂ − M‖²_F / Σ_heads ‖M‖²_F) in each form of W_QK (forms.FORMS), for any changed heads M̂.

    In the score metric this is the root of the mean squared error of attention scores over their mean square, for
    queries and keys drawn independently from the calibration text; with the mean key taken out, of their variances
    over keys. For M = S_Q^½ W_Q W_Kᵀ S_K^½ no root is needed: ⟨M̂, M⟩ = ⟨Ŵ_Qᵀ S_Q W_Q, Ŵ_Kᵀ S_K W_K⟩.

    Attributes:
        own: the untouched heads. metrics: S_Q and S_K of each circuit form; None is the identity.
        squares: Σ ‖M‖²_F of the untouched heads of each layer, in each of them.
    """

    own: Heads
    metrics: dict[str, tuple[Metric, Metric]]
    squares: dict[str, Float[Tensor, "layers"]]

    @classmethod
    def fit(cls, heads: Heads, moments: Moments) -> RelativeErrors:
        """The second moments of what the layers read; of keys also without their mean."""
        bias_rows = 0 if heads.b_Q is None else 1
        S = moments.augmented if bias_rows else moments.shrunk
        centred = F.pad(moments.shrunk_covariance, (0, bias_rows) * 2)
        metrics: dict[str, tuple[Metric, Metric]] = {
            "circuit": (None, None),
            "score": (S, S),
            "score_centred": (S, centred),
        }
        squares = {}
        for form, metric in metrics.items():
            rows = _rows(heads, form)
            squares[form] = _inner(rows, _weighted(rows, metric))
        return cls(heads, metrics, squares)

    def of(self, changed: Heads) -> dict[str, float]:
        """The error of `changed`, by form."""
        gram = gram_form(self.own)
        errors = {"gram": float((gram_form(changed) - gram).norm() / gram.norm())}
        return errors | {form: self.within(form, changed) for form in self.metrics}

    def within(self, form: str, changed: Heads) -> float:
        """The error of `changed` in one form but the gram form."""
        return float((self.squared(form, changed).sum() / self.squares[form].sum()).clamp(min=0).sqrt())

    def squared(self, form: str, changed: Heads) -> Float[Tensor, "layers"]:
        """Σ_heads ‖M̂ − M‖²_F of each layer: ‖M̂ − M‖² = ⟨M̂, M̂⟩ − 2 ⟨M, M̂⟩ + ⟨M, M⟩."""
        own, other = _rows(self.own, form), _rows(changed, form)
        weighted = _weighted(other, self.metrics[form])
        return _inner(other, weighted) - 2 * _inner(own, weighted) + self.squares[form]


def _rows(heads: Heads, form: str) -> Heads:
    """The heads; in the score metric with their biases as one more row."""
    return heads if form == "circuit" else biases_as_rows(heads)


def _weighted(heads: Heads, metric: tuple[Metric, Metric]) -> Heads:
    """S_Q W_Q and S_K W_K."""
    sides = zip(metric, (heads.W_Q, heads.W_K), strict=True)
    return Heads(*(W if S is None else each_layer(S, W) for S, W in sides))


def _inner(a: Heads, weighted: Heads) -> Float[Tensor, "layers"]:
    """Σ ⟨A_Q A_Kᵀ, B_Q B_Kᵀ⟩ = Σ ⟨A_Qᵀ S_Q B_Q, A_Kᵀ S_K B_K⟩ over a layer's heads, given B `weighted`."""
    queries, keys = a.W_Q.mT @ weighted.W_Q, a.W_K.mT @ weighted.W_K
    return (queries * keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)).sum(dim=(1, 2, 3))

"""How far changed heads are from the untouched ones, in each form of W_QK."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, biases_as_rows, each_layer, gram_form
from permeation.weights.moments import Moments

CIRCUIT_FORMS = ("circuit", "score", "score_centred")


@dataclass(frozen=True)
class RelativeErrors:
    """√(Σ_heads ‖M̂ − M‖²_F / Σ_heads ‖M‖²_F) in each form of W_QK (forms.FORMS), for any changed heads M̂.

    In the score metric this is the root of the mean squared error of attention scores over their mean square, for
    queries and keys drawn independently from the calibration text; with the mean key taken out, of their variances
    over keys.

    Attributes:
        own: the untouched heads. moments: of what their layers read.
        gram: M of the untouched heads in gram form. squares: Σ ‖M‖²_F of each layer, in each of CIRCUIT_FORMS.
    """

    own: Heads
    moments: Moments
    gram: Float[Tensor, "n d_head d_head"]
    squares: dict[str, Float[Tensor, "layers"]]

    @classmethod
    def fit(cls, heads: Heads, moments: Moments) -> RelativeErrors:
        """What the errors are relative to."""
        layers = zip(heads.layers(), moments.layers(), strict=True)
        squares = (square for own, each in layers for square in _inner(own, each, own))
        return cls(heads, moments, gram_form(heads), _by_form(squares))

    def of(self, changed: Heads) -> dict[str, float]:
        """The error of `changed`, by form."""
        errors = {"gram": float((gram_form(changed) - self.gram).norm() / self.gram.norm())}
        for form, square in self.squared(changed).items():
            errors[form] = float((square.sum() / self.squares[form].sum()).clamp(min=0).sqrt())
        return errors

    def squared(self, changed: Heads) -> dict[str, Float[Tensor, "layers"]]:
        """Σ_heads ‖M̂ − M‖²_F of each layer, by form: ‖M̂ − M‖² = ⟨M̂, M̂⟩ − 2 ⟨M, M̂⟩ + ⟨M, M⟩."""

        def beyond() -> Iterator[dict[str, Tensor]]:
            for own, other, moments in zip(self.own.layers(), changed.layers(), self.moments.layers(), strict=True):
                by_itself, with_own = _inner(other, moments, other, own)
                yield {form: by_itself[form] - 2 * with_own[form] for form in CIRCUIT_FORMS}

        return {form: each + self.squares[form] for form, each in _by_form(beyond()).items()}


def _inner(heads: Heads, moments: Moments, *others: Heads) -> Iterator[dict[str, Float[Tensor, "1"]]]:
    """Σ_heads ⟨M, N⟩ of a layer's heads with each of the others, by form.

    For M = S^½ W_Q W_Kᵀ S^½ no root is needed: ⟨M, N⟩ = ⟨W_Qᵀ S V_Q, W_Kᵀ S V_K⟩. With the mean key taken out the keys'
    S is S − x̄ x̄ᵀ.
    """
    rows = biases_as_rows(heads)
    S = moments.shrunk if rows is heads else moments.augmented
    mean = F.pad(moments.mean, (0, S.shape[1] - moments.mean.shape[1]), value=1)[:, None]
    weighted_Q, weighted_K, mean_key = each_layer(S, rows.W_Q), each_layer(S, rows.W_K), mean @ rows.W_K
    for other in others:
        other_rows = biases_as_rows(other)
        queries, keys = other_rows.W_Q.mT @ weighted_Q, other_rows.W_K.mT @ weighted_K
        yield {
            "circuit": _paired(other.W_Q.mT @ heads.W_Q, other.W_K.mT @ heads.W_K),
            "score": _paired(queries, keys),
            "score_centred": _paired(queries, keys - (mean @ other_rows.W_K).mT @ mean_key),
        }


def _paired(queries: Float[Tensor, "1 heads r r"], keys: Float[Tensor, "1 kv_heads r r"]) -> Float[Tensor, "1"]:
    """Σ ⟨Q_i, K_i⟩ over a layer's heads, each with its group's K."""
    return (queries * keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)).sum(dim=(1, 2, 3))


def _by_form(layers: Iterable[dict[str, Float[Tensor, "1"]]]) -> dict[str, Float[Tensor, "layers"]]:
    each = list(layers)
    return {form: torch.cat([of[form] for of in each]) for form in CIRCUIT_FORMS}

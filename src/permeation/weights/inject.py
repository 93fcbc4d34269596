"""Putting changed W_QK into a model, and taking them out again.

    W_Q ← W_Q + W_K (W_Kᵀ W_K)⁻¹ (M̂ − M)ᵀ,  M = W_Qᵀ W_K

Then W_Qᵀ W_K = M̂. What W_Q does outside the span of W_K, which the gram form does not see, stays (docs/weights.md,
Injection).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.models.families import attention_outputs, attention_views
from permeation.models.fold import undoable
from permeation.weights.heads import Heads, gathered, gram_form

MAX_CONDITION = 1e6  # of W_K, whose numbers are float32's: beyond it, its smallest direction is rounding error


@dataclass(frozen=True)
class GramInjection:
    """Finds the W_Q, in float64, that gives the heads a wanted gram form with the W_K they have.

    Attributes:
        heads: the untouched heads. own: their gram form M. dual: W_K (W_Kᵀ W_K)⁻¹ of every key head.
    """

    heads: Heads
    own: Float[Tensor, "n d_head d_head"]
    dual: Float[Tensor, "layers kv_heads d_model d_head"]

    @classmethod
    def fit(cls, heads: Heads) -> GramInjection:
        """Factorise every W_K = Q R once: W_K (W_Kᵀ W_K)⁻¹ = Q R⁻ᵀ.

        Raises PermeationError for a head whose W_K has linearly dependent columns: not every M̂ can be had there.
        """
        Q, R = torch.linalg.qr(heads.W_K.double())
        singular = torch.linalg.svdvals(R)
        dependent = ~(singular[..., 0] / singular[..., -1] < MAX_CONDITION)
        if dependent.any():
            layer, key_head = dependent.nonzero()[0].tolist()
            raise PermeationError(
                f"W_K of key head {layer}.{key_head} has linearly dependent columns (condition above "
                f"{MAX_CONDITION:g}); the W_QK of its heads cannot be replaced in gram form"
            )
        # Q R⁻ᵀ solves X Rᵀ = Q.
        return cls(heads, gram_form(heads), torch.linalg.solve_triangular(R.mT, Q, upper=False, left=False))

    def queries_for(self, target: Float[Tensor, "n d_head d_head"]) -> Float[Tensor, "layers heads d_model d_head"]:
        """W_Q whose gram form with the present W_K is `target`."""
        layers, kv_heads = self.heads.W_K.shape[:2]
        change = (target - self.own).mT.unflatten(0, (layers, kv_heads, -1))
        each = zip(self.heads.layers(), self.dual.split(1), change.split(1), strict=True)
        return gathered(((own.W_Q + (dual[:, :, None] @ M).flatten(1, 2),) for own, dual, M in each), layers)[0]

    def mixed(self, mixing: Float[Tensor, "n n"]) -> Float[Tensor, "layers heads d_model d_head"]:
        """W_Q whose gram forms are mixtures of the heads' own, M̂ = R M."""
        return self.queries_for((mixing.to(self.own) @ self.own.flatten(1)).view_as(self.own))

    def relative_change(self, W_Q: Float[Tensor, "layers heads d_model d_head"]) -> Float[Tensor, "nonzero"]:
        """|ΔW_Q| / |W_Q| of each head whose W_Q is not 0, in Frobenius norm."""
        each = zip(self.heads.layers(), W_Q.split(1), strict=True)
        norms = ([torch.linalg.matrix_norm(W) for W in (own.W_Q, new - own.W_Q)] for own, new in each)
        norm, change = gathered(norms, len(W_Q))
        return change[norm > 0] / norm[norm > 0]


@contextmanager
def injected(model: Any, W_Q: Tensor | None = None, **others: Tensor) -> Iterator[None]:
    """The model with these weights in place of its own inside the block; its own come back however it ends.

    others: W_K, b_Q, b_K, W_V, W_O, b_V; all have the shapes of `Heads`.
    """
    weights = others if W_Q is None else {"W_Q": W_Q} | others
    layers = enumerate(zip(attention_views(model), attention_outputs(model), strict=True))
    views = [
        (getattr(output if name == "W_O" else views, name).detach(), new[i])
        for i, (views, output) in layers
        for name, new in weights.items()
    ]
    own = [view.clone() for view, _ in views]
    try:
        for view, new in views:
            view.copy_(new)
        yield
    finally:
        for (view, _), old in zip(views, own, strict=True):
            view.copy_(old)


@torch.no_grad()
def write_unfolded(model: Any, heads: Heads) -> None:
    """Write the weights of a model with folded norms into the same model as it is: undo `models.fold`.

        W ← diag(γ)⁻¹ Ŵ diag(γ_qk)⁻¹,  b ← diag(γ_qk)⁻¹ b̂ − β W

    Raises PermeationError where the model as it is cannot hold them: a bias that its projections lack, or numbers in a
    row that its norm multiplies by 0.
    """
    for i, (layer, new) in enumerate(zip(attention_views(model), heads.layers(), strict=True)):
        weight, beta = getattr(layer.norm, "weight", None), getattr(layer.norm, "bias", None)
        gamma = torch.ones(1) if weight is None else weight.double() + layer.norm_offset
        inner_norms: dict[str, tuple[Any, ...]] = {"Q": layer.q_norm, "K": layer.k_norm, "V": ()}
        for name, norms in inner_norms.items():
            own, own_bias = getattr(layer, f"W_{name}"), getattr(layer, f"b_{name}")
            W, bias = getattr(new, f"W_{name}"), getattr(new, f"b_{name}")
            if W is None:
                continue
            if (W[0] * (gamma == 0)[:, None]).any():
                raise PermeationError(
                    f"the norm of layer {i} has a scale of 0, behind which this method stores numbers"
                )
            # A norm of queries or keys has one scale for all heads together, one that all share, or one for each head.
            scales = [undoable(norm.weight.double() + layer.norm_offset) for norm in norms] or [
                torch.ones(own.shape[2])
            ]
            inner = torch.stack(scales).view(-1, 1, own.shape[2])
            plain = W[0] / torch.where(gamma == 0, torch.inf, gamma)[:, None] / inner
            own.copy_(plain)
            if bias is None:
                continue
            if own_bias is None:
                raise PermeationError(
                    f"the projections of this {model.config.model_type} have no biases to undo the norm's shift with"
                )
            b = bias[0] / inner[:, 0]
            own_bias.copy_(b if beta is None else b - beta.double() @ plain)
    if heads.W_O is not None:
        for output, W_O in zip(attention_outputs(model), heads.W_O, strict=True):
            output.W_O.copy_(W_O)

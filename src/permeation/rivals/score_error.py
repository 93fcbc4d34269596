"""How far changed heads are from the untouched ones in what attention scores see.

    Σ_heads ‖S^½ (M̂ − M) Σ^½‖²_F,  M = W_Q W_Kᵀ,  Σ = S − x̄ x̄ᵀ

The mean squared error of attention scores without what every key shares (docs/weights.md, Score metric).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from permeation.rivals.base import Problem
from permeation.weights.heads import Heads, biases_as_rows, each_layer


def squared_score_error(layer: Problem, changed: Heads) -> Float[Tensor, ""]:
    """The error of one layer; biases are one more row of W.

    M̂ − M = (Ŵ_Q W_Q) (Ŵ_K −W_K)ᵀ, and ‖S^½ Q Kᵀ Σ^½‖² = ⟨Qᵀ S Q, Kᵀ Σ K⟩, so no root and no d × d form is needed.
    """
    own, other, moments = biases_as_rows(layer.heads), biases_as_rows(changed), layer.moments
    S = moments.shrunk if layer.heads.b_Q is None else moments.augmented
    mean = F.pad(moments.mean, (0, S.shape[1] - moments.mean.shape[1]), value=1)[:, :, None]
    Q, K = torch.cat([other.W_Q, own.W_Q], dim=3), torch.cat([other.W_K, -own.W_K], dim=3)
    queries, keys = Q.mT @ each_layer(S, Q), K.mT @ each_layer(S - mean @ mean.mT, K)
    return (queries * keys.repeat_interleave(Q.shape[1] // K.shape[1], dim=1)).sum()

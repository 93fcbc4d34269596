"""How far a changed model's next-token distributions are from the untouched one's: KL, and the likeliest token.

docs/weights.md, KL and agreement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.models.families import Readout, readout
from permeation.perplexity.nll import VOCABULARY_TILE, window_nll


@dataclass(frozen=True)
class Reference:
    """The untouched model on some windows.

    Attributes:
        residuals: what it scores their tokens from, behind the final norm.
    """

    residuals: Float[Tensor, "windows scored d_model"]

    @classmethod
    def of(cls, model: Any, windows: Int[Tensor, "windows context"]) -> Reference:
        """Run the model, untouched as it is now, over the windows."""
        seen: list[Tensor] = []
        for _ in window_nll(model, windows, watch=seen.append):
            pass
        return cls(torch.cat(seen))


@dataclass
class Divergence:
    """What is found of the first windows while a changed model is scored: `window_nll` shows it their residuals.

    Attributes:
        reference: the untouched model on these windows. model: the changed one, for its readout.
        kl: Σ KL(untouched ‖ changed) in nats over the scored tokens of each window seen so far.
        agreeing: at how many of them both find the same token the likeliest.
    """

    reference: Reference
    model: Any
    kl: list[float] = field(default_factory=list)
    agreeing: list[int] = field(default_factory=list)

    @torch.inference_mode()
    def __call__(self, hidden: Float[Tensor, "batch scored d_model"]) -> None:
        """Compare what is left of the reference's windows."""
        head = readout(self.model)
        own = self.reference.residuals[len(self.kl) :]
        for untouched, changed in zip(own, hidden, strict=False):
            with fast_products():
                kl, agree = token_divergence(untouched, changed, head)
            self.kl.append(float(kl.sum()))
            self.agreeing.append(int(agree.sum()))


def token_divergence(
    hidden: Float[Tensor, "positions d_model"], changed: Float[Tensor, "positions d_model"], head: Readout
) -> tuple[Float[np.ndarray, "positions"], Bool[np.ndarray, "positions"]]:
    """KL(p ‖ q) = Σ_v p(v) (z_v − y_v) − log Σ exp z + log Σ exp y in nats; whether z and y are largest at one v.

    z and y are the logits of both residuals, p and q their softmax. Tile by tile over the vocabulary: the logits of
    all tokens never exist at once.
    """
    size = VOCABULARY_TILE[hidden.device.type]
    parts: dict[str, list[Tensor]] = {name: [] for name in ("z", "y", "gap", "z_max", "z_at", "y_max", "y_at")}
    for start in range(0, len(head.W), size):
        tile = head[start : start + size]
        z, y = tile.logits(hidden).float(), tile.logits(changed).float()
        of_z, of_y = z.logsumexp(dim=1), y.logsumexp(dim=1)
        # The tile's mean of z − y under p, of which Σ_tiles p(tile) is taken below.
        gap = ((z - of_z[:, None]).exp() * (z - y)).sum(dim=1)
        (z_max, z_at), (y_max, y_at) = z.max(dim=1), y.max(dim=1)
        found = (of_z, of_y, gap, z_max, z_at + start, y_max, y_at + start)
        for part, value in zip(parts.values(), found, strict=True):
            part.append(value)
    of = {name: torch.stack(part).cpu().double() for name, part in parts.items()}
    log_z, log_y = of["z"].logsumexp(dim=0), of["y"].logsumexp(dim=0)
    kl = ((of["z"] - log_z).exp() * of["gap"]).sum(dim=0) - log_z + log_y
    likeliest = [of[f"{x}_at"].gather(0, of[f"{x}_max"].argmax(0, keepdim=True))[0] for x in "zy"]
    return kl.numpy(), (likeliest[0] == likeliest[1]).numpy()

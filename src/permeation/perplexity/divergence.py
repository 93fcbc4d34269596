"""How far a changed model's next-token distributions are from the untouched one's: KL, and the likeliest token.

docs/weights.md, KL and agreement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from permeation.models.families import Readout, readout
from permeation.perplexity.nll import log_partition, target_logits, tiles, token_nll, window_nll


@dataclass(frozen=True)
class Reference:
    """The untouched model on the tokens of a window.

    Attributes:
        residuals: what it scores them from, behind the final norm. log_Z: log Σ exp of its logits z, in float64.
        likeliest: the token of the largest.
    """

    residuals: Float[Tensor, "positions d_model"]
    log_Z: Float[Tensor, "positions"]
    likeliest: Int[Tensor, "positions"]


def references(model: Any, windows: Int[Tensor, "windows context"]) -> list[Reference]:
    """The model, untouched as it is now, on each of the windows."""
    head = readout(model)
    found: list[Reference] = []

    def keep(hidden: Float[Tensor, "batch scored d_model"], targets: Int[Tensor, "batch scored"]) -> Tensor:
        found.extend(Reference(residuals, *largest(residuals, head)) for residuals in hidden)
        return torch.zeros(targets.shape)

    for _ in window_nll(model, windows, score=keep):
        pass
    return found


def largest(
    hidden: Float[Tensor, "positions d_model"], head: Readout
) -> tuple[Float[Tensor, "positions"], Int[Tensor, "positions"]]:
    """log Σ exp of the logits, and the token of the largest."""
    partitions, most, tokens = [], [], []
    for start, tile in tiles(head, hidden.device):
        z = tile.logits(hidden)
        of_tile, at = z.max(dim=1)
        partitions.append(log_partition(z))
        most.append(of_tile)
        tokens.append(start + at)
    largest_tile = torch.stack(most).argmax(dim=0, keepdim=True)
    log_Z = torch.stack(partitions).cpu().double().logsumexp(dim=0)
    return log_Z, torch.stack(tokens).gather(0, largest_tile)[0]


@dataclass
class Divergence:
    """What is found of the first windows while a changed model is scored: the `score` of its `window_nll`.

    Attributes:
        references: the untouched model on these windows. model: the changed one, for its readout.
        kl: Σ KL(untouched ‖ changed) in nats over the scored tokens of each window seen so far.
        agreeing: at how many of them both find the same token the likeliest.
    """

    references: list[Reference]
    model: Any
    kl: list[float] = field(default_factory=list)
    agreeing: list[int] = field(default_factory=list)

    def __call__(
        self, hidden: Float[Tensor, "batch scored d_model"], targets: Int[Tensor, "batch scored"]
    ) -> Float[Tensor, "batch scored"]:
        """The NLL of a batch; compares what is left of the reference's windows on the way."""
        head, left = readout(self.model), self.references[len(self.kl) :]
        nll = []
        for reference, changed, target in zip(left, hidden, targets, strict=False):
            kl, agree, lost = token_divergence(reference, changed, head, target)
            self.kl.append(float(kl.sum()))
            self.agreeing.append(int(agree.sum()))
            nll.append(lost)
        if len(rest := hidden[len(left) :]):
            nll += token_nll(rest.flatten(0, 1), head, targets[len(left) :].flatten()).view(len(rest), -1)
        return torch.stack(nll)


def token_divergence(
    reference: Reference,
    changed: Float[Tensor, "positions d_model"],
    head: Readout,
    targets: Int[Tensor, "positions"],
) -> tuple[Float[Tensor, "positions"], Bool[Tensor, "positions"], Float[Tensor, "positions"]]:
    """KL(p ‖ q) = Σ_v p(v) (z_v − y_v) − log Σ exp z + log Σ exp y in nats; whether z and y are largest at one v; the
    changed model's NLL.

    z and y are the logits of the reference and of the changed residuals, p and q their softmax.
    Tile by tile over the vocabulary: the logits of all tokens never exist at once.
    """
    log_Z = reference.log_Z[:, None].to(changed)
    partitions, gaps, most, at_likeliest = [], [], [], []
    for start, tile in tiles(head, changed.device):
        z, y = tile.logits(reference.residuals).float(), tile.logits(changed).float()
        partitions.append(log_partition(y))
        gaps.append(torch.einsum("pv,pv->p", (z - log_Z).exp(), z - y))
        most.append(y.amax(dim=1))
        place = reference.likeliest[:, None] - start
        inside = (place >= 0) & (place < y.shape[1])
        there = y.gather(1, place.clamp(0, y.shape[1] - 1)).masked_fill(~inside, -torch.inf)
        at_likeliest.append(there[:, 0])
    log_Y = torch.stack(partitions).cpu().double().logsumexp(dim=0)
    kl = torch.stack(gaps).cpu().double().sum(dim=0) - reference.log_Z + log_Y
    agree = torch.stack(at_likeliest).amax(dim=0) == torch.stack(most).amax(dim=0)
    return kl, agree.cpu(), log_Y - target_logits(changed, head, targets)

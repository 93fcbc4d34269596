"""The perplexity without one head: z_h at every position replaced by its mean over text."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.heads.word_runs import changing
from permeation.models.families import attention_outputs
from permeation.perplexity.fast import untouched_before
from permeation.perplexity.nll import window_nll
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Windows


def mean_outputs(model: Any, windows: Windows) -> Float[Tensor, "layers heads d_head"]:
    """E z_h over all positions of the windows, of every head."""
    places = list(attention_outputs(model))
    sums: list[Any] = [0.0] * len(places)

    with ExitStack() as hooks, torch.inference_mode(), fast_products():
        for layer, place in enumerate(places):  # pragma: no branch (coverage misses the step into the body)

            def add(_projection: Any, inputs: tuple[Tensor, ...], layer: int = layer) -> None:
                sums[layer] = sums[layer] + inputs[0].cpu().double().flatten(0, 1).sum(dim=0)

            hooks.callback(place.projection.register_forward_pre_hook(add).remove)
        for window in windows.tokens.to(model.device).split(1):
            model.base_model(window, use_cache=False)
    # inference_mode's tensors stay outside of everything that records gradients; a copy does not.
    return torch.stack([each.clone() for each in sums]).unflatten(1, (len(places[0].W_O), -1)) / windows.tokens.numel()


@dataclass(frozen=True)
class Ablation:
    """What it takes to measure the perplexity without a head.

    Attributes:
        baseline: windows and the untouched model's NLL. means: E z_h over other windows of the same text.
        streams: what `untouched_before` keeps; one for all layers, best in rising order.
    """

    baseline: Baseline
    means: Float[Tensor, "layers heads d_head"]
    streams: dict[bytes, tuple[int, Tensor]]

    @classmethod
    def fit(cls, model: Any, whole: Windows, count: int, context: int) -> Ablation:
        """The first `count` windows are scored, from the start of each `context` tokens; the next `count` give means.

        Raises PermeationError where there are fewer windows or tokens.
        """
        windows, tokens = whole.tokens.shape
        if 2 * count > windows or context > tokens:
            raise PermeationError(
                f"heads.windows is {count} and heads.context {context}; the text gives {windows} windows of {tokens} "
                f"tokens; accepted: at most {windows // 2} and {tokens}"
            )
        scored, others = (
            Windows(whole.tokens[part, :context], whole.articles[part])
            for part in (slice(count), slice(count, 2 * count))
        )
        untouched = np.concatenate(list(window_nll(model, scored.tokens, count)))
        return cls(Baseline(scored, untouched), mean_outputs(model, others), {})

    def nll(self, model: Any, layer: int, head: int) -> Float[np.ndarray, "windows"]:
        """Σ NLL of each window, in nats, with z of one head replaced by its mean at every position."""
        mean = self.means[layer, head]

        def change(z: Tensor) -> Tensor:
            z = z.clone()
            z[..., head, :] = mean.to(z)
            return z

        with changing(model, layer, change), untouched_before(model, layer, self.streams):
            return np.concatenate(list(window_nll(model, self.baseline.windows.tokens, len(self.baseline.nll))))

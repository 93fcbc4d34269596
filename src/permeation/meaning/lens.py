"""What a model would predict if it stopped at layer l: softmax(W_U norm(φ)), with φ the stream that a lens gives.

The logit lens takes φ(l) as it is (nostalgebraist, 2020). For a LayerNorm it does not matter that φ comes with its mean
over d_model removed. The tuned lens maps φ(l) to φ(L) first. Belrose et al. (2023, arXiv 2303.08112) train the map by
gradient descent on the KL of the predictions. Here it is a ridge regression onto the final stream, pulled towards the
identity. An infinite penalty leaves the logit lens, moved by the mean of φ(L) − φ(l). With x = (φ(l), 1) and
y = (φ(L), 1) the map is M = (A 0; bᵀ 1), y ≈ Mᵀ x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame import progress
from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.meaning.intervene import lean, response_to_shift
from permeation.meaning.measure_uses import Shifting, Uses
from permeation.meaning.residuals import residuals_at
from permeation.models.families import final_norm, longest_context, readout
from permeation.perplexity.windows import Text

FITTED, MEASURED = 12288, 4096  # tokens of the first half of the text, and of the second
CONTEXT, BATCH = 128, 8  # tokens of a window; windows that go through the model at once
PENALTIES = tuple(10.0**power for power in range(-5, 2))
Lens = Callable[[Float[np.ndarray, "*batch d_model"], int], Float[np.ndarray, "*batch d_model"]]
Sums = Float[Tensor, "2 layers augmented augmented"]


def logit_lens(stream: Float[np.ndarray, "*batch d_model"], _layer: int) -> Float[np.ndarray, "*batch d_model"]:
    """The stream itself."""
    return stream


@torch.no_grad()
@fast_products()
def logits(model: Any, stream: Float[np.ndarray, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
    """The logits of streams that stand for φ(L)."""
    return readout(model).logits(final_norm(model)(torch.from_numpy(stream).to(model.device, model.dtype)))


def through(uses: Uses, shifting: Shifting, name: str, lens: Lens) -> Uses:
    """The interventions of `uses` with a lens in place of the blocks after each layer; the outcome is `name`.

    R is the change of T that the lens sees, over the model's own difference between the senses. R of the transplant is
    the share of this difference that the lens reads; at the last layer the logit lens gives R of the next token.
    """
    clean, words = shifting.clean, {}
    for word in uses.words:
        own, pairs = clean.words[word]
        T, seen = clean.T[own], []
        for layer in uses.layers:
            shifts = np.pad(pairs.shifts(layer, shifting.seed), ((0, 0), (1, 0), (0, 0)))  # the first is none
            p = logits(shifting.model, lens(pairs.stream[:, layer, None] + shifts, layer)).float().softmax(dim=-1)
            leans = lean(p.cpu(), clean.weights[own]).numpy()
            seen.append(response_to_shift(T, T[:, None] + leans[:, 1:] - leans[:, :1]))
        words[word] = np.stack(seen)
    return replace(uses, words=words, outcome=name)


def sums(batches: Iterable[Float[np.ndarray, "_tokens layers d_model"]]) -> Sums:
    """Σ x xᵀ and Σ x yᵀ by layer, in float64; memory is O(L d_model²), however many tokens there are."""
    total = torch.zeros(())
    for batch in batches:
        x = torch.nn.functional.pad(torch.from_numpy(batch).transpose(0, 1).double(), (0, 1), value=1.0)
        total = total + torch.stack([x.mT @ x, x.mT @ x[-1]])
    return total


def ridge(of: Sums, layer: int, penalty: float) -> Float[Tensor, "augmented augmented"]:
    """The M of least Σ ‖y − Mᵀ x‖² + λ ‖A − I‖², with λ = penalty · Σ ‖φ(l) − mean‖² / d_model."""
    xx, xy = of[:, layer]
    weights = (penalty * _scatter(xx) / (len(xx) - 1)).repeat(len(xx))
    weights[-1] = 0
    return torch.eye(len(xx)).to(xx) + torch.linalg.solve(xx + weights.diag(), xy - xx)


def explained(of: Sums, layer: int, M: Float[Tensor, "augmented augmented"]) -> float:
    """1 − Σ ‖y − Mᵀ x‖² / Σ ‖y − mean‖²."""
    (xx, xy), yy = of[:, layer], of[0, -1]
    return 1 - float((yy.trace() - 2 * (M * xy).sum() + (M * (xx @ M)).sum()) / _scatter(yy))


def _scatter(xx: Float[Tensor, "augmented augmented"]) -> Tensor:
    return xx.trace() - xx[-1].square().sum() / xx[-1, -1]


@dataclass(frozen=True)
class TunedLens:
    """M by layer, 0 to L; called with streams and their layer, it gives what they say φ(L) is."""

    maps: Float[Tensor, "layers augmented augmented"]

    @classmethod
    def fit(cls, learned: Sums, held_out: Sums, penalties: Sequence[float] = PENALTIES) -> TunedLens:
        """Each layer's penalty is the one that explains most of what was held out; M is then fitted on both."""

        def best(layer: int) -> float:
            return max(penalties, key=lambda each: explained(held_out, layer, ridge(learned, layer, each)))

        both = learned + held_out
        return cls(torch.stack([ridge(both, layer, best(layer)) for layer in range(both.shape[1])]))

    def __call__(self, stream: Float[np.ndarray, "*batch d_model"], layer: int) -> Float[np.ndarray, "*batch d_model"]:
        M = self.maps[layer, :, :-1].numpy()
        return stream @ M[:-1] + M[-1]


def fit_to_text(model: Any, text: Text) -> tuple[TunedLens, list[float]]:
    """The lens from the first half of a text, and the share of φ(L)'s variance it explains in the second, by layer.

    The penalties are chosen on a quarter of the first half's windows. A window's first token, whose stream is many
    times as long as others in most models, is left out. Raises PermeationError for a text that is too short.
    """
    context = min(CONTEXT, longest_context(model.config))
    halves = (Text(half, half[:0], text.bos) for half in text.tokens.chunk(2))
    fitted, measured = (half.spread(context, n).tokens for half, n in zip(halves, (FITTED, MEASURED), strict=True))

    def read(windows: Int[Tensor, "windows context"]) -> Sums:
        streams = residuals_at(model, windows.tolist(), [range(1, context)] * len(windows), BATCH)
        return sums(each.reshape(-1, *each.shape[2:]) for _, each in streams)

    if (held_out := len(fitted) // 4) == 0:
        raise PermeationError(f"the text has {len(text.tokens)} tokens; a tuned lens needs at least {8 * context}")
    parts = fitted[held_out:], fitted[:held_out], measured
    learned, other, new = map(read, progress.each(parts, "tuned lens", len(parts)))
    lens = TunedLens.fit(learned, other)
    return lens, [explained(new, layer, M) for layer, M in enumerate(lens.maps)]

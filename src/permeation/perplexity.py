"""Perplexity of a causal language model on a text, and paired comparison with another model on the same windows.

Perplexity = exp(Σ NLL / Σ tokens), NLL in nats. The text is tokenised in one piece without special tokens and cut
into windows that do not overlap; the first token of a window has no context and is not scored (DESIGN.md,
Definitions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from permeation.errors import PermeationError

VOCABULARY_TILE = 1024  # logits of so many tokens at a time: for a thousand positions 4 MB, which stay in the cache


def tokenize(tokenizer: Any, text: str) -> Int[Tensor, "tokens"]:
    """The whole text as token ids, without special tokens."""
    return torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids, dtype=torch.long)


def cut_windows(tokens: Int[Tensor, "tokens"], context: int, max_tokens: int | None) -> Int[Tensor, "windows context"]:
    """Windows of `context` tokens, ⌊max_tokens / context⌋ of them spread evenly over the text (null: all).

    Window j of w out of W starts at window ⌊j · W / w⌋. Raises PermeationError where the text or max_tokens is
    shorter than one window.
    """
    available = len(tokens) // context
    if available == 0:
        raise PermeationError(
            f"the corpus has {len(tokens)} tokens; accepted: at least perplexity.context, which is {context}"
        )
    wanted = available if max_tokens is None else min(available, max_tokens // context)
    if wanted == 0:
        raise PermeationError(
            f"perplexity.max_tokens is {max_tokens}; accepted: at least perplexity.context, which is {context}"
        )
    windows = tokens[: available * context].view(available, context)
    return windows[torch.arange(wanted) * available // wanted]


@torch.inference_mode()
def window_nll(
    model: Any, windows: Int[Tensor, "windows context"], batch_size: int
) -> Iterator[Float[np.ndarray, "batch"]]:
    """Yield Σ NLL in nats over the context − 1 scored tokens of each window, batch by batch, in float64.

    Raises PermeationError for a loss that is not finite: such a window is never skipped.
    """
    unembedding = model.get_output_embeddings().weight
    for batch in windows.to(model.device).split(batch_size):
        hidden = model.base_model(batch, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
        nll = token_nll(hidden, unembedding, batch[:, 1:].flatten()).view(len(batch), -1).sum(dim=1)
        if not torch.isfinite(nll).all():
            raise PermeationError("the model's loss is not finite on a window of the text")
        yield nll.cpu().numpy()


def token_nll(
    hidden: Float[Tensor, "positions d_model"],
    unembedding: Float[Tensor, "d_vocab d_model"],
    targets: Int[Tensor, "positions"],
) -> Float[Tensor, "positions"]:
    """log Σ_v exp(w_v · x) − w_target · x at each position, in nats and float64.

    Tile by tile over the vocabulary: the logits of all positions and tokens never exist at once.
    """
    logits = hidden.new_empty(len(hidden), VOCABULARY_TILE)
    partial = []
    for tile in unembedding.split(VOCABULARY_TILE):
        out = logits if len(tile) == VOCABULARY_TILE else hidden.new_empty(len(hidden), len(tile))
        partial.append(torch.mm(hidden, tile.T, out=out).float().logsumexp(dim=1))
    target_logit = torch.einsum("pd,pd->p", hidden.float(), unembedding[targets].float())
    return torch.stack(partial).double().logsumexp(dim=0) - target_logit


def perplexity(nll: Float[np.ndarray, "windows"], tokens: int) -> float:
    """exp(Σ NLL / Σ tokens)."""
    return float(np.exp(nll.sum() / tokens))


@dataclass(frozen=True)
class Ratio:
    """Perplexity over the untouched model's, on the same windows, with a 95 % interval."""

    ratio: float
    low: float
    high: float


def paired_ratio(
    nll: Float[np.ndarray, "windows"], baseline: Float[np.ndarray, "windows"], tokens_per_window: int
) -> Ratio:
    """exp of the mean paired difference per token; the interval is Student's t over the windows' differences."""
    difference = (nll - baseline) / tokens_per_window
    mean = difference.mean()
    margin = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    return Ratio(*(float(np.exp(mean + step)) for step in (0, -margin, margin)))


def ratio_table(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict[str, float]]:
    """Rows with `ratio`, `low` and `high` as the metrics files hold them: ratio.<key>, ratio_low.<key> and so on."""
    return {
        metric: {row[key]: row[column] for row in rows}
        for metric, column in (("ratio", "ratio"), ("ratio_low", "low"), ("ratio_high", "high"))
    }


@dataclass(frozen=True)
class Comparison:
    """The untouched model's result on a set of windows, against which changed models are measured.

    Attributes:
        windows: (windows, context) token ids. baseline: the untouched model's Σ NLL per window.
        batch_size: windows scored at once.
    """

    windows: Int[Tensor, "windows context"]
    baseline: Float[np.ndarray, "windows"]
    batch_size: int

    @classmethod
    def read(cls, folder: Path, batch_size: int) -> Comparison:
        """What the stage `baseline` wrote."""
        windows = torch.from_numpy(np.load(folder / "windows.npy"))
        return cls(windows, np.load(folder / "nll.npy"), batch_size)

    def ratio(self, model: Any, progress: Callable[[int], object]) -> Ratio:
        """Score `model` as it is now; `progress` is told the tokens of each batch."""
        context = self.windows.shape[1]
        nll = []
        for batch in window_nll(model, self.windows, self.batch_size):
            nll.append(batch)
            progress(len(batch) * context)
        return paired_ratio(np.concatenate(nll), self.baseline, context - 1)

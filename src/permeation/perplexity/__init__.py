"""Perplexity of a causal language model on a text, and paired comparison with another model on the same windows.

Perplexity = exp(Σ NLL / Σ tokens), NLL in nats. The text is tokenised in one piece without special tokens and cut
into windows that do not overlap; the first token of a window has no context and is not scored (DESIGN.md,
Definitions).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from scipy.stats import qmc
from torch import Tensor

from permeation.config import Perplexity
from permeation.errors import PermeationError
from permeation.files import read_json

# Per device: positions scored at once, and the tile of the vocabulary whose logits exist at once. On a processor a
# tile's logits (1024 × 1024 numbers) stay in the cache; a GPU wants larger products and has the memory for them.
BATCH_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}
VOCABULARY_TILE = {"cpu": 1024, "mps": 8192, "cuda": 8192}
FIRST_LOOK = 8  # windows before the first look at the interval, where a tolerance is set


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


def spread_order(count: int) -> Int[np.ndarray, "count"]:
    """An order of 0 … count − 1 of which every beginning is spread evenly (van der Corput's sequence, ranked)."""
    return qmc.Halton(d=1, scramble=False).random(count)[:, 0].argsort().argsort()


def windows_per_batch(batch_size: int | Literal["auto"], context: int, device: torch.device) -> int:
    """`perplexity.batch_size`, with `auto` as what suits the device."""
    return max(1, BATCH_TOKENS[device.type] // context) if batch_size == "auto" else batch_size


@torch.inference_mode()
def window_nll(
    model: Any, windows: Int[Tensor, "windows context"], batch_size: int | Literal["auto"] = "auto"
) -> Iterator[Float[np.ndarray, "batch"]]:
    """Yield Σ NLL in nats over the context − 1 scored tokens of each window, batch by batch, in float64.

    `batch_size` counts windows; `auto` fills what suits the device.
    Raises PermeationError for a loss that is not finite: such a window is never skipped.
    """
    unembedding = model.get_output_embeddings().weight
    for batch in windows.to(model.device).split(windows_per_batch(batch_size, windows.shape[1], model.device)):
        hidden = model.base_model(batch, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
        nll = token_nll(hidden, unembedding, batch[:, 1:].flatten()).view(len(batch), -1).sum(dim=1)
        if not torch.isfinite(nll).all():
            raise PermeationError("the model's loss is not finite on a window of the text")
        yield nll.numpy()


def token_nll(
    hidden: Float[Tensor, "positions d_model"],
    unembedding: Float[Tensor, "d_vocab d_model"],
    targets: Int[Tensor, "positions"],
) -> Float[Tensor, "positions"]:
    """log Σ_v exp(w_v · x) − w_target · x at each position, in nats and float64, on the CPU.

    Tile by tile over the vocabulary: the logits of all positions and tokens never exist at once.
    """
    partial = []
    for tile in unembedding.split(VOCABULARY_TILE[hidden.device.type]):
        logits = hidden @ tile.T
        # z₀ − log softmax(z)₀ is the tile's log Σ exp z. torch computes a log-softmax in one pass, a logsumexp in four.
        partial.append(logits[:, 0].float() - logits.log_softmax(dim=1, dtype=torch.float32)[:, 0])
    target_logit = torch.einsum("pd,pd->p", hidden.float(), unembedding[targets].float())
    # Not every device has float64.
    return torch.stack(partial).cpu().double().logsumexp(dim=0) - target_logit.cpu().double()


def perplexity(nll: float, tokens: int) -> float:
    """exp(Σ NLL / Σ tokens)."""
    return math.exp(nll / tokens)


@dataclass(frozen=True)
class Ratio:
    """Perplexity over the untouched model's, on the same windows, with a 95 % interval and the tokens it took."""

    ratio: float
    low: float
    high: float
    tokens: int

    def within(self, tolerance: float) -> bool:
        """Whether half the interval is at most `tolerance` of the ratio."""
        return (self.high - self.low) / 2 <= tolerance * self.ratio


def paired_ratio(
    nll: Float[np.ndarray, "windows"], baseline: Float[np.ndarray, "windows"], tokens_per_window: int
) -> Ratio:
    """exp of the mean paired difference per token; the interval is Student's t over the windows' differences."""
    difference = (nll - baseline) / tokens_per_window
    mean = difference.mean()
    margin = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    ratio, low, high = (float(np.exp(mean + step)) for step in (0, -margin, margin))
    return Ratio(ratio, low, high, len(difference) * tokens_per_window)


def looks(count: int, tolerance: float | None) -> list[int]:
    """After how many windows, of `count`, the interval is looked at: 8, 16, 32 … with a tolerance, else at the end.

    Looking seldom keeps the interval's coverage: a rule that looks after every window stops at chance dips of the
    variance. By simulation (tests/test_perplexity.py) 95 % intervals cover in 94 % of the runs or more.
    """
    if tolerance is None:
        return [count]
    doubling = takewhile(lambda look: look < count, (FIRST_LOOK << i for i in itertools.count()))
    return [*doubling, count]


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
        dtype: the number format it was scored in. batch_size: windows scored at once.
        tolerance: stop once half the interval is this share of the ratio; None: score all windows.
    """

    windows: Int[Tensor, "windows context"]
    baseline: Float[np.ndarray, "windows"]
    dtype: str
    batch_size: int | Literal["auto"]
    tolerance: float | None

    @classmethod
    def read(cls, folder: Path, settings: Perplexity) -> Comparison:
        """What the stage `baseline` wrote."""
        windows = torch.from_numpy(np.load(folder / "windows.npy"))
        dtype = read_json(folder / "summary.json")["dtype"]
        return cls(windows, np.load(folder / "nll.npy"), dtype, settings.batch_size, settings.tolerance)

    def ratio(self, model: Any, progress: Callable[[int], object]) -> Ratio:
        """Score `model` as it is now; `progress` is told the tokens of each batch."""
        context = self.windows.shape[1]
        order = spread_order(len(self.windows))
        nll = np.empty(0)
        for look in looks(len(order), self.tolerance):
            for batch in window_nll(model, self.windows[order[len(nll) : look]], self.batch_size):
                nll = np.append(nll, batch)
                progress(len(batch) * context)
            found = paired_ratio(nll, self.baseline[order[:look]], context - 1)
            if self.tolerance is not None and found.within(self.tolerance):
                break
        return found

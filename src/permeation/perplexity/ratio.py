"""A changed model against the untouched one: the ratio of their perplexities on the same windows, and its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from scipy.special import stdtrit
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.frame.journal import Journal
from permeation.frame.tables import read_json
from permeation.perplexity.nll import window_nll, windows_per_batch
from permeation.perplexity.settings import Perplexity
from permeation.perplexity.windows import Windows

FIRST_LOOK = 8  # windows before the first look at the interval, where a tolerance is set


@dataclass(frozen=True)
class Ratio:
    """Perplexity over the untouched model's, on the same windows, with a 95 % interval and the tokens it took."""

    ratio: float
    low: float
    high: float
    tokens: int

    def within(self, tolerance: float, relative_tolerance: float) -> bool:
        """Whether half the interval is at most `tolerance`, or `relative_tolerance` · |log ratio|, of the ratio.

        The second is the precision of the harm in nats: nobody needs to know whether a ratio is 130 or 131.
        """
        allowed = max(tolerance, relative_tolerance * abs(float(np.log(self.ratio))))
        return (self.high - self.low) / 2 <= allowed * self.ratio


def paired_ratio(
    nll: Float[np.ndarray, "windows"],
    baseline: Float[np.ndarray, "windows"],
    articles: Int[np.ndarray, "windows"],
    tokens_per_window: int,
) -> Ratio:
    """exp of the mean paired difference per token, m; the interval has whole articles as its samples.

    With D_a the sum over an article's windows of (difference − m), n windows and A articles, the variance of m is
    A / (A − 1) Σ D_a² / n² (clusters of unequal size; with one window an article, the usual one) and the interval
    Student's t with A − 1 degrees of freedom. A single article says nothing of others: its interval is (0, ∞).
    """
    difference = (nll - baseline) / tokens_per_window
    mean, count = difference.mean(), len(difference)
    _, article = np.unique(articles, return_inverse=True)
    sums = np.bincount(article, difference - mean)
    A = len(sums)
    margin = np.inf if A == 1 else stdtrit(A - 1, 0.975) * np.sqrt(A / (A - 1) * np.square(sums).sum()) / count
    ratio, low, high = (float(np.exp(mean + step)) for step in (0, -margin, margin))
    return Ratio(ratio, low, high, count * tokens_per_window)


def look_schedule(count: int, tolerance: float | None) -> list[int]:
    """After how many windows, of `count`, the interval is looked at: 8, 16, 32 … with a tolerance, else at the end.

    Looking seldom keeps the interval's coverage: a rule that looks after every window stops at chance dips of the
    variance. By simulation 95 % intervals cover in 93.2 to 94.4 % of the runs (tests/perplexity/test_ratio.py).
    """
    if tolerance is None:
        return [count]
    doublings = (FIRST_LOOK << i for i in range(count.bit_length()))
    return [*(look for look in doublings if look < count), count]


def untouched_nll(
    model: Any, windows: Windows, settings: Perplexity, journal: Journal, progress: Callable[[int], object]
) -> Float[np.ndarray, "windows"]:
    """Σ NLL of every window by the model as it is, kept in the journal batch by batch."""

    def score(batch: Int[Tensor, "batch context"]) -> dict[str, list[float]]:
        return {"nll": next(window_nll(model, batch, len(batch))).tolist()}

    nll: list[float] = []
    for batch in windows.tokens.split(windows_per_batch(settings.batch_size, windows.tokens.shape[1], model)):
        nll += journal.remember(partial(score, batch), {"tokens": batch.tolist()})["nll"]
        progress(batch.numel())
    return np.array(nll)


@dataclass(frozen=True)
class Baseline:
    """The untouched model's result on a set of windows, against which changed models are measured.

    Attributes:
        windows: what is scored, in this order. baseline: the untouched model's Σ NLL per window.
        settings: how it was scored; their dtype is no longer `auto`.
    """

    windows: Windows
    baseline: Float[np.ndarray, "windows"]
    settings: Perplexity

    def __post_init__(self) -> None:
        """Raise PermeationError for windows that give no interval."""
        count, context = self.windows.tokens.shape
        articles = len(self.windows.articles.unique())
        if articles < 2:
            raise PermeationError(
                f"the text and max_tokens give {count} windows of {context} tokens to measure on, from {articles} "
                "articles; an interval needs at least 2"
            )

    @classmethod
    def measure(
        cls, model: Any, windows: Windows, settings: Perplexity, journal: Journal, progress: Callable[[int], object]
    ) -> Baseline:
        """Score the model as it is now, as far as the journal of untouched windows does not know it."""
        return cls(windows, untouched_nll(model, windows, settings, journal, progress), settings)

    @property
    def tokens(self) -> int:
        """How many tokens are scored where nothing stops early."""
        return self.baseline.size * (self.windows.tokens.shape[1] - 1)

    @classmethod
    def read(cls, folder: Path, settings: Perplexity) -> Baseline:
        """What `write` wrote."""
        tensors = load_file(folder / "windows.safetensors")
        scored = replace(settings, dtype=read_json(folder / "summary.json")["dtype"])
        return cls(Windows(tensors["tokens"], tensors["articles"]), tensors["nll"].numpy(), scored)

    def write(self, folder: Path) -> None:
        """Write windows.safetensors: tokens (windows, context), articles (windows) and nll (windows), Σ NLL in nats."""
        tensors = {"tokens": self.windows.tokens, "articles": self.windows.articles}
        save_file({**tensors, "nll": torch.from_numpy(self.baseline)}, folder / "windows.safetensors")

    def ratio(self, model: Any, progress: Callable[[int], object]) -> Ratio:
        """Score `model` as it is now, until the interval is narrow enough; `progress` is told each batch's tokens."""
        settings, context = self.settings, self.windows.tokens.shape[1]
        nll = np.empty(0)
        for look in look_schedule(self.baseline.size, settings.tolerance):
            for batch in window_nll(model, self.windows.tokens[len(nll) : look], settings.batch_size):
                nll = np.append(nll, batch)
                progress(len(batch) * context)
            found = paired_ratio(nll, self.baseline[:look], self.windows.articles[:look].numpy(), context - 1)
            if settings.tolerance is not None and found.within(settings.tolerance, settings.relative_tolerance):
                break
        return found

"""A changed model against the untouched one: the ratio of their perplexities on the same windows, and its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from permeation.perplexity.nll import Score, window_nll, windows_per_batch
from permeation.perplexity.settings import Perplexity
from permeation.perplexity.windows import Windows

FIRST_LOOK = 3  # windows before the first look at the interval, where a tolerance is set
FIRST_SHARE = 0.1  # of the tolerance, that is enough at the first look: chance makes three windows look alike too often
KEPT_RATIO = 1.05  # up to this ratio a model counts as kept: 5 % more perplexity


@dataclass(frozen=True)
class Estimate:
    """exp of a mean NLL, or of a mean difference of two: a perplexity, or a ratio of perplexities.

    Attributes:
        value: the estimate. low, high: its 95 % interval. tokens, windows: what was scored for it.
    """

    value: float
    low: float
    high: float
    tokens: int
    windows: int

    def settled(self, settings: Perplexity) -> bool:
        """Whether a ratio needs no more windows.

        Its whole interval is above `hopeless`; or half of it is at most `tolerance`, or `relative_tolerance` ·
        |log value|, of the value: the precision of the harm in nats. At the first look a tenth of that is asked.
        """
        if settings.tolerance is None:
            return False
        if settings.hopeless is not None and self.low > settings.hopeless:
            return True
        allowed = max(settings.tolerance, settings.relative_tolerance * abs(float(np.log(self.value))))
        share = FIRST_SHARE if self.windows <= FIRST_LOOK else 1.0
        return (self.high - self.low) / 2 <= share * allowed * self.value


def mean_and_margin(values: Float[np.ndarray, "windows"], articles: Int[np.ndarray, "windows"]) -> tuple[float, float]:
    """The mean m of a value per window, and half of its 95 % interval, with whole articles as its samples.

    With D_a the sum over an article's windows of (value − m), n windows and A articles, the variance of m is
    A / (A − 1) Σ D_a² / n² (clusters of unequal size; with one window an article, the usual one) and the interval
    Student's t with A − 1 degrees of freedom. A single article says nothing of others: its margin is infinite.
    """
    mean, count = values.mean(), len(values)
    _, article = np.unique(articles, return_inverse=True)
    sums = np.bincount(article, values - mean)
    A = len(sums)
    margin = np.inf if A == 1 else stdtrit(A - 1, 0.975) * np.sqrt(A / (A - 1) * np.square(sums).sum()) / count
    return float(mean), float(margin)


def estimate(nll: Float[np.ndarray, "windows"], articles: Int[np.ndarray, "windows"], tokens: int) -> Estimate:
    """exp(m) with its interval, for the mean m per token of windows of `tokens` tokens (`mean_and_margin`).

    `nll` is Σ NLL per window, or the difference of two models' on the same windows; then exp(m) is a ratio.
    """
    mean, margin = mean_and_margin(nll / tokens, articles)
    with np.errstate(over="ignore"):  # e^709 and above are infinite
        value, low, high = (float(np.exp(mean + step)) for step in (0, -margin, margin))
    return Estimate(value, low, high, len(nll) * tokens, len(nll))


def look_schedule(count: int, tolerance: float | None) -> list[int]:
    """After how many windows, of `count`, the interval is looked at: 3, 6, 9, 12, 18, 24, 36 …, or at the end.

    Looking seldom keeps the interval's coverage: a rule that looks after every window stops at chance dips of the
    variance. How often the intervals cover is simulated in tests/perplexity/test_ratio.py.
    """
    if tolerance is None:
        return [count]
    later = (step << i for i in range(count.bit_length()) for step in (2 * FIRST_LOOK, 3 * FIRST_LOOK))
    return [*(look for look in (FIRST_LOOK, *later) if look < count), count]


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
        windows: what is scored, in this order. nll: the untouched model's Σ NLL per window, in nats.
    """

    windows: Windows
    nll: Float[np.ndarray, "windows"]

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
    def read(cls, folder: Path) -> Baseline:
        """What `write` left in a folder."""
        tensors = load_file(folder / "windows.safetensors")
        return cls(Windows(tensors["tokens"], tensors["articles"]), tensors["nll"].numpy())

    def write(self, folder: Path) -> None:
        """Write windows.safetensors: tokens (windows, context), articles (windows) and nll (windows), Σ NLL in nats."""
        tensors = {"tokens": self.windows.tokens, "articles": self.windows.articles}
        save_file({**tensors, "nll": torch.from_numpy(self.nll)}, folder / "windows.safetensors")

    def first(self, count: int) -> Baseline:
        """The same for the first `count` windows, or for all where there are fewer.

        Raises PermeationError where they are of one article.
        """
        if len(self.windows.articles[:count].unique()) < 2:
            raise PermeationError(
                f"the first {count} windows are of one article of the text, and an interval needs at least 2 articles: "
                "ask for more windows (locate.windows)"
            )
        return Baseline(Windows(self.windows.tokens[:count], self.windows.articles[:count]), self.nll[:count])

    @property
    def perplexity(self) -> Estimate:
        """The untouched model's perplexity on all windows, with its interval."""
        return estimate(self.nll, self.windows.articles.numpy(), self.windows.scored)

    def ratio(self, nll: Float[np.ndarray, "first"]) -> Estimate:
        """The perplexity ratio of a model with these Σ NLL on the first windows."""
        count = len(nll)
        return estimate(nll - self.nll[:count], self.windows.articles[:count].numpy(), self.windows.scored)

    def mean_per_token(self, name: str, sums: Float[np.ndarray, "first"]) -> dict[str, float | None]:
        """`name`, `name`_low and `name`_high: the mean per token of sums over the first windows, and its interval, None
        where they are of a single article.
        """
        mean, margin = mean_and_margin(sums / self.windows.scored, self.windows.articles[: len(sums)].numpy())
        low, high = (mean - margin, mean + margin) if np.isfinite(margin) else (None, None)
        return {name: mean, f"{name}_low": low, f"{name}_high": high}

    def score(
        self,
        model: Any,
        settings: Perplexity,
        progress: Callable[[int], object],
        score: Score | None = None,
    ) -> Float[np.ndarray, "first"]:
        """Σ NLL of the first windows by `model` as it is now: as many as make the ratio's interval narrow enough.

        `progress` is told each batch's tokens. `score`: as of `window_nll`.
        """
        nll = np.empty(0)
        for look in look_schedule(self.nll.size, settings.tolerance):
            for batch in window_nll(model, self.windows.tokens[len(nll) : look], settings.batch_size, score):
                nll = np.append(nll, batch)
                progress(len(batch) * self.windows.tokens.shape[1])
            if self.ratio(nll).settled(settings):
                break
        return nll

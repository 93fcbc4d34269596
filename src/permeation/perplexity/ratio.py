"""A changed model against the untouched one: the ratio of their perplexities on the same windows, and its interval.

    ratio = exp m,  m = mean over n windows of x,  x = (NLL changed − NLL untouched) / scored tokens
    Var m = A / (A − 1) Σ_a D_a² / n²,  D_a = Σ (x − m) over the windows of article a, of A articles
    interval = exp(m ± t √Var m),  t = the 97.5 % quantile of Student's t with A − 1 degrees of freedom

Articles are the samples, because windows of one article are alike: clusters of unequal size, and with one window an
article the usual variance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from scipy.special import stdtrit
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.frame.journal import Journal
from permeation.perplexity.nll import window_nll
from permeation.perplexity.windows import Windows

FIRST_LOOK = 3  # windows before the first look at the interval
FIRST_SHARE = 0.1  # of the tolerance, at the first look: three windows look alike by chance too often
HARM_SHARE = 0.2  # of |log ratio|: a precision of the harm in nats that is enough
HOPELESS = 2.0  # a model whose whole interval is above it is of no use, however bad it is
KEPT_RATIO = 1.05  # up to this ratio a model counts as kept: 5 % more perplexity


@dataclass(frozen=True)
class Estimate:
    """exp of a mean NLL, or of a mean difference of two: a perplexity, or a ratio of perplexities.

    Attributes:
        value: the estimate. low, high: its 95 % interval. tokens, windows: how much was scored.
    """

    value: float
    low: float
    high: float
    tokens: int
    windows: int

    def settled(self, tolerance: float) -> bool:
        """Whether half of a ratio's interval is at most max(tolerance, |log ratio| / 5) of the ratio, or all above 2.

        At the first look half of the interval has to be a tenth of that.
        """
        if self.low > HOPELESS:
            return True
        allowed = max(tolerance, HARM_SHARE * abs(float(np.log(self.value))))
        share = FIRST_SHARE if self.windows <= FIRST_LOOK else 1.0
        return (self.high - self.low) / 2 <= share * allowed * self.value


def estimate(nll: Float[np.ndarray, "windows"], articles: Int[np.ndarray, "windows"], tokens: int) -> Estimate:
    """exp(m) with its interval, for the mean m per token over windows of `tokens` scored tokens.

    `nll` is Σ NLL per window, or the difference of two models' on the same windows; then exp(m) is a ratio. Of a single
    article the interval is infinite.
    """
    x, n = nll / tokens, len(nll)
    mean = x.mean()
    _, article = np.unique(articles, return_inverse=True)
    D = np.bincount(article, x - mean)
    A = len(D)
    margin = np.inf if A == 1 else stdtrit(A - 1, 0.975) * np.sqrt(A / (A - 1) * np.square(D).sum()) / n
    with np.errstate(over="ignore"):  # e^709 and above are infinite
        value, low, high = (float(np.exp(mean + step)) for step in (0, -margin, margin))
    return Estimate(value, low, high, n * tokens, n)


def look_schedule(count: int) -> list[int]:
    """After how many windows, of `count`, the interval is looked at: 3, 6, 9, 12, 18, 24, 36 …, and at the end.

    A rule that looks after every window stops at chance dips of the variance (tests/perplexity/test_ratio.py).
    """
    later = (step << i for i in range(count.bit_length()) for step in (2 * FIRST_LOOK, 3 * FIRST_LOOK))
    return [*(look for look in (FIRST_LOOK, *later) if look < count), count]


def untouched_nll(
    model: Any, batches: Iterable[Int[Tensor, "_batch context"]], journal: Journal
) -> Float[np.ndarray, "windows"]:
    """Σ NLL of every window by the model as it is, kept in the journal batch by batch."""

    def score(batch: Int[Tensor, "batch context"]) -> list[float]:
        return next(window_nll(model, batch, len(batch))).tolist()

    return np.concatenate([journal.remember(partial(score, each), {"tokens": each.tolist()}) for each in batches])


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
            found = f"there are {count} windows of {context} tokens to measure on, from {articles} articles"
            raise PermeationError(f"{found}; an interval needs at least 2: a longer text, or more windows")

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
        """The first `count` windows, or all where there are fewer."""
        return Baseline(Windows(self.windows.tokens[:count], self.windows.articles[:count]), self.nll[:count])

    @property
    def perplexity(self) -> Estimate:
        """The untouched model's perplexity on all windows, with its interval."""
        return estimate(self.nll, self.windows.articles.numpy(), self.windows.scored)

    def ratio(self, nll: Float[np.ndarray, "first"]) -> Estimate:
        """The perplexity ratio of a model with these Σ NLL on the first windows."""
        count = len(nll)
        return estimate(nll - self.nll[:count], self.windows.articles[:count].numpy(), self.windows.scored)

    def score(
        self, model: Any, tolerance: float | None, batch_size: int | Literal["auto"] = "auto"
    ) -> Float[np.ndarray, "first"]:
        """Σ NLL of the first windows by `model` as it is now: as many as settle the ratio; all without a tolerance."""
        nll, count = np.empty(0), len(self.nll)
        for look in [count] if tolerance is None else look_schedule(count):
            nll = np.concatenate([nll, *window_nll(model, self.windows.tokens[len(nll) : look], batch_size)])
            if tolerance is not None and self.ratio(nll).settled(tolerance):
                break
        return nll

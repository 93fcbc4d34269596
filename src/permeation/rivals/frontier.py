"""How few bits a method needs: where its curve meets a bearable ratio, which runs lie on the frontier, and a law by
which the score error foretells a run that has not been measured.

docs/weights.md, The frontier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.optimize import isotonic_regression

from permeation.perplexity.ratio import KEPT_RATIO, Baseline
from permeation.weights.forms import FORMS
from permeation.weights.replace import Measured

Rows = Sequence[Mapping[str, Any]]

FORM = "score_centred"  # the form of W_QK in which the error ranks runs best (`proxies`)
TARGET = float(np.log(KEPT_RATIO))  # nats per token
LEAST = 1e-4  # a log ratio below this cannot be told from 0, or from another
MOST = 100.0  # a log ratio above it is as bad as any
RESAMPLES = 1000


def crossing(bits: Float[np.ndarray, "sizes"], log_ratios: Float[np.ndarray, "sizes"]) -> float | None:
    """Bits per number at which a falling curve through the runs of one method meets the log of KEPT_RATIO.

    The logarithms of the log ratios are made falling in the bits (isotonic regression), and joined by straight lines.
    None where no run is above, or none below.
    """
    met = _meeting(bits, log_ratios)
    return met if np.isfinite(met) else None


def _meeting(bits: Float[np.ndarray, "sizes"], log_ratios: Float[np.ndarray, "sizes"]) -> float:
    """`crossing`; −∞ where the curve begins below, ∞ where it ends above."""
    order = np.argsort(bits)
    x = np.asarray(bits)[order]
    y = np.log(np.maximum(np.asarray(log_ratios)[order], LEAST))
    fitted = isotonic_regression(y, increasing=False).x
    below = np.flatnonzero(fitted <= np.log(TARGET))
    if not below.size or below[0] == 0:
        return -np.inf if below.size else np.inf
    i = int(below[0])
    share = (fitted[i - 1] - np.log(TARGET)) / (fitted[i - 1] - fitted[i])
    return float(x[i - 1] + share * (x[i] - x[i - 1]))


@dataclass(frozen=True)
class Bits:
    """Bits per original number at KEPT_RATIO.

    Attributes:
        value: None where the runs do not bracket it. low, high: the middle 95 % of the resamples.
    """

    value: float | None
    low: float | None
    high: float | None


def bits_needed(runs: Sequence[Measured], baseline: Baseline, seed: int) -> Bits:
    """`crossing` of one method's runs, with an interval; None in all where there is no run.

    From the Bayesian bootstrap over articles (Rubin 1981): every resample weighs the articles by exponential numbers,
    the same in all runs, so that what an article does to all of them cancels.
    """
    bits = np.array([run.row["bits"] for run in runs])
    value = crossing(bits, np.log([run.row["ratio"] for run in runs])) if runs else None
    if value is None:
        return Bits(None, None, None)
    articles = baseline.windows.articles.numpy()
    _, article = np.unique(articles, return_inverse=True)
    weights = np.random.default_rng(seed).exponential(size=(RESAMPLES, article.max() + 1))[:, article]
    resampled = np.stack([_weighted(run.nll, baseline, weights) for run in runs], axis=1)
    # In a resample whose runs do not bracket it, it is at the end of the bits that were tried.
    found = np.clip([_meeting(bits, line) for line in resampled], bits.min(), bits.max())
    return Bits(value, *(float(end) for end in np.quantile(found, [0.025, 0.975])))


def _weighted(
    nll: Float[np.ndarray, "first"], baseline: Baseline, weights: Float[np.ndarray, "draws windows"]
) -> Float[np.ndarray, "draws"]:
    """The log ratio of a run under each weighing of the windows."""
    count = len(nll)
    per_token = (nll - baseline.nll[:count]) / baseline.windows.scored
    return weights[:, :count] @ per_token / weights[:, :count].sum(1)


@dataclass(frozen=True)
class Law:
    """log ratio = c ε², with ε the relative score error without the mean key, fitted to some runs.

    Attributes:
        c: None where fewer than two runs lose anything for certain. runs: how many it was fitted to.
        spread: exp of twice the standard deviation of log c over these runs: few of them are off by more.
    """

    c: float | None = None
    runs: int = 0
    spread: float | None = None

    @classmethod
    def fit(cls, rows: Rows) -> Law:
        """The geometric mean of log ratio / ε² over the runs whose interval is above 1."""
        logs = [_log_c(row) for row in rows if _loses(row)]
        if len(logs) < 2:
            return cls(runs=len(logs))
        return cls(float(np.exp(np.mean(logs))), len(logs), float(np.exp(2 * np.std(logs, ddof=1))))

    def ratio(self, error: float) -> float | None:
        """The perplexity ratio foretold for a run of this error."""
        return None if self.c is None else float(np.exp(min(self.c * error**2, MOST)))

    def held_out_factor(self, rows: Rows) -> float | None:
        """exp of the root mean square of log(measured / foretold log ratio) over runs that it was not fitted to."""
        logs = [_log_c(row) for row in rows if _loses(row)]
        if self.c is None or not logs:
            return None
        return float(np.exp(np.sqrt(np.mean(np.square(np.array(logs) - np.log(self.c))))))


def _loses(row: Mapping[str, Any]) -> bool:
    return row["low"] is not None and row["low"] > 1 and row[f"error_{FORM}"] > 0


def _log_c(row: Mapping[str, Any]) -> float:
    return float(np.log(np.log(row["ratio"])) - 2 * np.log(row[f"error_{FORM}"]))


def beaten(bits: float, foretold: float, rows: Rows, factor: float) -> bool:
    """Whether a run that has not been measured is out of the question for the frontier.

    It is where a measured one that takes no more bits has less than 1 / `factor` of the log ratio foretold for it.
    """
    lost = np.log(foretold)
    return any(row["bits"] <= bits and factor * max(np.log(row["ratio"]), LEAST) < lost for row in rows)


def on_frontier(rows: Rows) -> list[bool]:
    """Whether no other run takes at most as many bits and has a smaller ratio, for each."""
    return [not any(other["bits"] <= row["bits"] and other["ratio"] < row["ratio"] for other in rows) for row in rows]


def proxies(rows: Rows) -> dict[str, float | None]:
    """Spearman's rank correlation over all runs between the relative error in each metric and log ratio.

    None for fewer than three runs, or where one of the two is the same in all.
    """
    harm = np.array([row["ratio"] for row in rows])
    correlations = {}
    for metric in FORMS:
        error = np.array([row[f"error_{metric}"] for row in rows])
        defined = len(rows) > 2 and np.ptp(error) > 0 and np.ptp(harm) > 0
        correlations[metric] = float(stats.spearmanr(error, harm).statistic) if defined else None
    return correlations


def half_width_near_kept(rows: Rows) -> float | None:
    """Half the interval of the run whose ratio is nearest to KEPT_RATIO: how sharp the headline is."""
    nearest = min(rows, key=lambda row: abs(np.log(row["ratio"] / KEPT_RATIO)), default=None)
    return None if nearest is None else (nearest["high"] - nearest["low"]) / 2


def summary(measured: Sequence[Measured], law: Law, held_out: Rows, baseline: Baseline, seed: int) -> dict[str, Any]:
    """What the stage's metrics say of its runs."""
    runs = [each for each in measured if each.there]
    by_method: dict[str, list[Measured]] = {each.row["method"]: [] for each in measured}
    for run in runs:
        by_method[run.row["method"]].append(run)
    found = {method: bits_needed(own, baseline, seed) for method, own in by_method.items()}
    best = min(found, key=lambda method: np.inf if (bits := found[method].value) is None else bits, default=None)
    of_best = Bits(None, None, None) if best is None else found[best]
    rows = [run.row for run in runs]
    return {
        "best": None if of_best.value is None else best,
        "best_bits": of_best.value,
        "best_bits_low": of_best.low,
        "best_bits_high": of_best.high,
        "bits_at_1_05": {method: bits.value for method, bits in found.items()},
        "bits_at_1_05_low": {method: bits.low for method, bits in found.items()},
        "bits_at_1_05_high": {method: bits.high for method, bits in found.items()},
        "bits_at_1_05_foretold": {method: _foretold(measured, method) for method in by_method},
        "runs": len(runs),
        "left_out": sum(not each.there and each.row["size"] is not None for each in measured),
        "law": {"c": law.c, "runs": law.runs, "spread": law.spread, "held_out_factor": law.held_out_factor(held_out)},
        "half_width_near_1_05": half_width_near_kept(rows),
        "tokens_for_kl": tokens_for_kl(runs, baseline),
        "proxy": proxies(rows),
    }


def _foretold(measured: Sequence[Measured], method: str) -> float | None:
    """`crossing` with what is foretold of the sizes that were left out."""
    rows = [each.row for each in measured if each.row["method"] == method]
    curve = [(row["bits"], row["ratio"] or row.get("foretold")) for row in rows]
    known = [(bits, np.log(ratio)) for bits, ratio in curve if ratio is not None]
    return crossing(*(np.array(line) for line in zip(*known, strict=True))) if known else None


def pairs(runs: Sequence[Measured], budgets: Sequence[float], baseline: Baseline) -> list[dict[str, Any]]:
    """At each budget of bits per number: every method's best run within it against the best of all, in pairs.

    `ratio` is this run's perplexity over the best one's on the windows that both were measured on, with its interval.
    """
    lines = []
    for budget in budgets:
        best: dict[str, Measured] = {}
        for run in runs:
            method = run.row["method"]
            within = run.row["bits"] <= budget
            if within and (method not in best or run.row["ratio"] < best[method].row["ratio"]):
                best[method] = run
        ranked = sorted(best.values(), key=lambda run: run.row["ratio"])
        lines += [_pair(run, ranked[0], budget, baseline) for run in ranked]
    return lines


def _pair(run: Measured, best: Measured, budget: float, baseline: Baseline) -> dict[str, Any]:
    both = min(len(run.nll), len(best.nll))
    windows = baseline.first(both)
    found = windows.ratio(run.nll[:both] - best.nll[:both] + windows.nll)
    of = {name: run.row[name] for name in ("method", "size", "bits")}
    pair = {"best": best.row["method"], "ratio": found.value, "low": found.low, "high": found.high}
    return {"budget": budget, **of, **pair, "windows": both}


def tokens_for_kl(runs: Sequence[Measured], baseline: Baseline) -> float | None:
    """Tokens that KL needs for an interval of some relative width, over those that the log ratio needs for the same.

    The median, over the runs that lose something for certain, of the ratio of both squared coefficients of variation
    between windows.
    """
    shares = []
    for run in runs:
        if len(run.kl) > 1 and _loses(run.row):
            harm = run.nll - baseline.nll[: len(run.nll)]
            kl, ratio = (np.var(each, ddof=1) / np.mean(each) ** 2 for each in (run.kl, harm))
            shares.append(kl / ratio)
    return float(np.median(shares)) if shares else None

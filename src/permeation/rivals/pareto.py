"""What a table of rivals says: the smallest storage at a bearable ratio, and which error predicts the harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from permeation.perplexity.ratio import KEPT_RATIO
from permeation.weights.forms import FORMS

Rows = Sequence[Mapping[str, Any]]


def smallest_shares(rows: Rows) -> dict[str, float | None]:
    """Each method's smallest stored share with a ratio of at most KEPT_RATIO; None where it has none."""
    found: dict[str, float | None] = {}
    for row in rows:
        bearable = row["ratio"] is not None and row["ratio"] <= KEPT_RATIO
        shares = [found.get(row["method"]), row["stored_share"] if bearable else None]
        found[row["method"]] = min((share for share in shares if share is not None), default=None)
    return found


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

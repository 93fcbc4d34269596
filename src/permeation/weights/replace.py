"""What it costs a model to have its heads' W_QK replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from permeation.perplexity.ratio import Baseline
from permeation.weights.inject import GramInjection, injected

# In which layers heads are replaced, and how many of the first layers keep their own. Where a norm is folded in whose
# scale is small, W_K of the first layer is ill-conditioned, and what the injection does to W_Q there can hide all the
# rest: what is said of ALL is worth most beside what is said of ALL_BUT_FIRST.
ALL, ALL_BUT_FIRST = "all layers", "all layers but the first"
REPLACED = {ALL: 0, ALL_BUT_FIRST: 1}


def measure_mixing(
    model: Any,
    injection: GramInjection,
    mixing: Float[Tensor, "n n"],
    comparison: Baseline,
    progress: Callable[[int], object],
    replaced: str = ALL,
) -> dict[str, float]:
    """The perplexity ratio with every head's gram form replaced by a mixture of the heads' own, M̂ = R M.

    With it, `change_median` and `change_max` over all heads of |ΔW_Q| / |W_Q|. `replaced` is of REPLACED.
    """
    own = REPLACED[replaced] * injection.heads.W_Q.shape[1]
    mixing = torch.cat([torch.eye(len(mixing)).to(mixing)[:own], mixing[own:]])
    W_Q = injection.mixed(mixing)
    change = injection.relative_change(W_Q)
    with injected(model, W_Q):
        ratio = comparison.ratio(model, progress)
    return {**asdict(ratio), "change_median": float(change.median()), "change_max": float(change.max())}


def ratio_tables(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Rows as the metrics files hold them: ratio.<key>, ratio_low.<key>, ratio_high.<key>.

    Of the rows with all layers replaced; those with all but the first stand under first_layer_kept.
    """
    every, others = (
        {
            metric: {row[key]: row[column] for row in rows if row["replaced"] == replaced}
            for metric, column in (("ratio", "ratio"), ("ratio_low", "low"), ("ratio_high", "high"))
        }
        for replaced in REPLACED
    )
    return {**every, "first_layer_kept": others}

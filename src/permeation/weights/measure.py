"""What it costs a model to have its heads' W_QK replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from jaxtyping import Float
from torch import Tensor

from permeation.comparison import Comparison
from permeation.weights.inject import GramInjection, injected


def measure_mixing(
    model: Any,
    injection: GramInjection,
    mixing: Float[Tensor, "n n"],
    comparison: Comparison,
    progress: Callable[[int], object],
) -> dict[str, float]:
    """The perplexity ratio with every head's gram form replaced by a mixture of the heads' own, M̂ = R M.

    With it, `change_median` and `change_max` over the heads of |ΔW_Q| / |W_Q|.
    """
    W_Q = injection.mixed(mixing)
    change = injection.relative_change(W_Q)
    with injected(model, W_Q):
        ratio = comparison.ratio(model, progress)
    return {**asdict(ratio), "change_median": float(change.median()), "change_max": float(change.max())}

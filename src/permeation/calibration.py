"""Which part of the text a method may learn from, and which part it is measured on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from permeation.config import Perplexity
from permeation.errors import PermeationError
from permeation.perplexity import Comparison, window_nll


def calibration_windows(length: int, context: int, tokens: int) -> Int[Tensor, "windows context"]:
    """Positions in a text of `length` tokens of ⌊tokens / context⌋ windows, spread evenly over it.

    Window j of w out of W is window ⌊(j + ½) W / w⌋, half a step away from where perplexity.cut_windows starts. Raises
    PermeationError where the text is shorter than twice that: what is learned from is never what is measured on.
    """
    available, wanted = length // context, tokens // context
    if wanted == 0:
        raise PermeationError(f"moments.tokens is {tokens}; accepted: at least moments.context, which is {context}")
    if 2 * wanted > available:
        raise PermeationError(
            f"moments.tokens is {tokens}; the text has {length} tokens, of which at most half may be calibration text"
        )
    first = (2 * torch.arange(wanted) + 1) * available // (2 * wanted) * context
    return first[:, None] + torch.arange(context)


def held_out_comparison(
    model: Any,
    tokens: Int[Tensor, "tokens"],
    calibration: Int[Tensor, "calibration_windows calibration_context"],
    settings: Perplexity,
    max_tokens: int | None,
    dtype: str,
    progress: Callable[[int], object],
) -> Comparison:
    """Score the untouched model, as it is scored in `dtype`, on held-out windows, to measure changed ones against."""
    starts = held_out_windows(tokens, calibration, settings.context, max_tokens)
    windows = tokens[starts[:, None] + torch.arange(settings.context)]
    nll = []
    for batch in window_nll(model, windows, settings.batch_size):
        nll.append(batch)
        progress(len(batch) * settings.context)
    return Comparison(windows, np.concatenate(nll), dtype, settings.batch_size, settings.tolerance)


def held_out_windows(
    tokens: Int[Tensor, "tokens"],
    calibration: Int[Tensor, "calibration_windows calibration_context"],
    context: int,
    max_tokens: int | None,
) -> Int[Tensor, "windows"]:
    """First positions of windows that hold no calibration token, ⌊max_tokens / context⌋ of them (null: all).

    Spread evenly over what is left of the text, by the rule of perplexity.cut_windows. Raises PermeationError where
    fewer than two are left: an interval needs two.
    """
    taken = torch.zeros(len(tokens), dtype=torch.bool)
    taken[calibration.flatten()] = True
    available = len(tokens) // context
    free = (~taken[: available * context].view(available, context).any(dim=1)).nonzero().flatten()
    wanted = len(free) if max_tokens is None else min(len(free), max_tokens // context)
    if wanted < 2:
        raise PermeationError(
            f"the text ({len(tokens)} tokens) and max_tokens ({max_tokens}) give {wanted} windows of {context} tokens "
            "beside the calibration text; an interval needs at least 2"
        )
    return free[torch.arange(wanted) * len(free) // wanted] * context

"""The linear response of σ to the strength of a context, and its factors h, f_max and g."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Response:
    """σ(l) ≈ slope(l) · h + intercept(l), least squares over one word's gradient prompts, per layer.

    Attributes:
        h: the context field of each prompt, in [−1, 1].
        slope: f(l), cosine per unit of h. intercept: cosine.
        r_squared: share of σ's variance explained; 0 where σ does not vary.
        standard_error: of the slope.
    """

    h: Float[np.ndarray, "prompts"]
    slope: Float[np.ndarray, "layers"]
    intercept: Float[np.ndarray, "layers"]
    r_squared: Float[np.ndarray, "layers"]
    standard_error: Float[np.ndarray, "layers"]

    @property
    def f_max(self) -> float:
        """The largest slope over the layers."""
        return float(self.slope.max())

    @property
    def g(self) -> Float[np.ndarray, "layers"]:
        """g(l/L) = f(l) / f_max, at most 1."""
        return self.slope / self.slope.max()


def field(sigma: Float[np.ndarray, "prompts layers"]) -> Float[np.ndarray, "prompts"]:
    """h = σ(L) / max |σ(L)| over a word's gradient prompts (DESIGN.md, h)."""
    final = sigma[:, -1]
    return final / np.abs(final).max()


def linear_response(h: Float[np.ndarray, "prompts"], sigma: Float[np.ndarray, "prompts layers"]) -> Response:
    """Regress σ(l) on h, for all layers at once.

    slope = Σ(h − h̄)(σ − σ̄) / Σ(h − h̄)², and its standard error is the root of RSS / (n − 2) / Σ(h − h̄)².
    """
    h_offset, sigma_offset = h - h.mean(), sigma - sigma.mean(axis=0)
    h_square, total = np.square(h_offset).sum(), np.square(sigma_offset).sum(axis=0)
    slope = h_offset @ sigma_offset / h_square
    explained = slope**2 * h_square
    return Response(
        h=h,
        slope=slope,
        intercept=sigma.mean(axis=0) - slope * h.mean(),
        r_squared=np.divide(explained, total, out=np.zeros_like(total), where=total > 0),
        standard_error=np.sqrt(np.maximum(total - explained, 0) / (len(h) - 2) / h_square),
    )

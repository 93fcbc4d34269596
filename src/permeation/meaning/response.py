"""The linear response of σ to the strength of a context, and its factors h, f_max and g."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float

ROUNDING = 1e-6  # of a cosine of float32 residuals


@dataclass(frozen=True)
class Response:
    """σ(l) ≈ slope(l) · h + intercept(l), least squares over one word's gradient prompts, per layer.

    Leading axes, where there are any, are independent draws (of a null model, of a bootstrap).

    Attributes:
        h: the context field of each prompt, in [−1, 1].
        slope: f(l), cosine per unit of h. intercept: cosine.
        r_squared: share of σ's variance explained; 0 where σ does not vary.
        standard_error: of the slope.
        signed: whether f_max is the largest slope, as published, and not the slope of largest size.
    """

    h: Float[np.ndarray, "*draws prompts"]
    slope: Float[np.ndarray, "*draws layers"]
    intercept: Float[np.ndarray, "*draws layers"]
    r_squared: Float[np.ndarray, "*draws layers"]
    standard_error: Float[np.ndarray, "*draws layers"]
    signed: bool = False

    def first_draw(self) -> Response:
        """The response of the first draw, without the axis of draws."""
        arrays = {field.name: getattr(self, field.name)[0] for field in fields(self) if field.name != "signed"}
        return replace(self, **arrays)

    @property
    def f_max(self) -> Float[np.ndarray, "*draws"]:
        """The slope of largest size over the layers, with its sign; where `signed`, the largest slope."""
        size = self.slope if self.signed else np.abs(self.slope)
        return np.take_along_axis(self.slope, size.argmax(axis=-1)[..., None], axis=-1)[..., 0]

    @property
    def g(self) -> Float[np.ndarray, "*draws layers"]:
        """g(l/L) = f(l) / f_max, at most 1; 0 where σ answers to h at no layer."""
        f_max = self.f_max[..., None]
        return np.divide(self.slope, f_max, out=np.zeros_like(self.slope), where=f_max != 0)


def context_field(
    sigma: Float[np.ndarray, "*draws folds prompts layers"],
    rank: Float[np.ndarray, "*any prompts"],
    field: str,
) -> tuple[Float[np.ndarray, "*draws rows"], Float[np.ndarray, "*draws rows layers"]]:
    """h of each gradient prompt and the σ that goes with it; rows are prompts, once per fold.

    `final`: h = σ(L) / max |σ(L)| (docs/meaning.md, h, f and g). R² is 1 at L by construction.
    `rank`: h is the prompt's place in its list, in (0, 1] for sense A and in [−1, 0) for B. Nothing measured enters.
    `heldout`: two folds, σ along directions from two disjoint halves of the direction prompts; σ of one fold is set
    against h = σ(L) / max |σ(L)| of the other. Each prompt stands in two rows, so standard errors are too small by
    up to √2. The error of a direction is then in σ or in h, and not in both. What the prompt itself does at L is still
    in both.
    """
    if field == "rank":
        h = np.broadcast_to(rank, sigma.shape[:-1])
    else:
        final = sigma[..., -1] if field == "final" else sigma[..., ::-1, :, -1]
        h = final / np.abs(final).max(axis=-1, keepdims=True)
    *draws, folds, prompts, layers = sigma.shape
    return h.reshape(*draws, folds * prompts), sigma.reshape(*draws, folds * prompts, layers)


def linear_response(
    h: Float[np.ndarray, "*draws prompts"], sigma: Float[np.ndarray, "*draws prompts layers"], signed: bool = False
) -> Response:
    """Regress σ(l) on h, for all layers and draws at once.

    slope = Σ(h − h̄)(σ − σ̄) / Σ(h − h̄)², and its standard error is the root of RSS / (n − 2) / Σ(h − h̄)².
    """
    h_mean, sigma_mean = h.mean(axis=-1, keepdims=True), sigma.mean(axis=-2)
    h_offset, sigma_offset = h - h_mean, sigma - sigma_mean[..., None, :]
    h_square, total = np.square(h_offset).sum(axis=-1, keepdims=True), np.square(sigma_offset).sum(axis=-2)
    slope = (h_offset[..., None, :] @ sigma_offset)[..., 0, :] / h_square
    explained = slope**2 * h_square
    return Response(
        h=h,
        slope=slope,
        intercept=sigma_mean - slope * h_mean,
        r_squared=np.divide(explained, total, out=np.zeros_like(total), where=total > 0),
        standard_error=np.sqrt(np.maximum(total - explained, 0) / (h.shape[-1] - 2) / h_square),
        signed=signed,
    )


def breakdown_field(
    response: Response, sigma: Float[np.ndarray, "prompts layers"], threshold: float
) -> Float[np.ndarray, "layers"]:
    """h*(l): the smallest |h| at which |σ − slope · h − intercept| passes `threshold` times σ's range at that layer.

    Infinite where no prompt's residual does: the response is linear throughout.
    """
    residual = sigma - np.outer(response.h, response.slope) - response.intercept
    span = np.ptp(sigma, axis=0)
    # A σ that varies by rounding alone, as at the embedding of one and the same token, responds to nothing.
    passed = np.abs(residual) > np.where(span > ROUNDING, threshold * span, np.inf)
    return np.where(passed, np.abs(response.h)[:, None], np.inf).min(axis=0)

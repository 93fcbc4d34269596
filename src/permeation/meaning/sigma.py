"""σ: how far a residual stream points along the contrast direction between two senses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations
from permeation.meaning.words import CONDITIONS, SENSES


def layer_index(layer: int, n_layers: int) -> int:
    """The layer that `sigma.direction_layer` names, counted from 0 (the embedding) to n_layers − 1 (the last block).

    Raises PermeationError where the model has no such layer.
    """
    if not -n_layers <= layer < n_layers:
        raise PermeationError(
            f"sigma.direction_layer is {layer}; accepted for this model: {-n_layers} to {n_layers - 1}"
        )
    return layer % n_layers


def contrast(
    sense_a: Float[np.ndarray, "prompts_a *layers d_model"], sense_b: Float[np.ndarray, "prompts_b *layers d_model"]
) -> Float[np.ndarray, "*layers d_model"]:
    """ê = (mean_A − mean_B) / ‖mean_A − mean_B‖, for each layer by itself (docs/meaning.md, Direction).

    A contrast of norm 0 (two senses whose means agree, as at the embedding of one and the same token) has no
    direction: its ê is 0, and so is every projection on it.
    """
    return unit(sense_a.mean(axis=0, dtype=np.float64) - sense_b.mean(axis=0, dtype=np.float64))


def check_contrast(
    word: str, sense_a: Float[np.ndarray, "prompts_a d_model"], sense_b: Float[np.ndarray, "prompts_b d_model"]
) -> None:
    """Raise PermeationError where the senses' means agree at the layer that σ takes its direction from."""
    if not contrast(sense_a, sense_b).any():
        raise PermeationError(
            f"{word!r} has no direction: at sigma.direction_layer the two senses' means agree, as they do in the "
            "embedding of one and the same token; accepted: a later layer"
        )


def unit(vectors: Float[np.ndarray, "*batch d_model"]) -> Float[np.ndarray, "*batch d_model"]:
    """Each vector over its norm; 0 stays 0."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def midpoint(
    sense_a: Float[np.ndarray, "prompts_a *layers d_model"], sense_b: Float[np.ndarray, "prompts_b *layers d_model"]
) -> Float[np.ndarray, "*layers d_model"]:
    """(mean_A + mean_B) / 2, for each layer by itself."""
    return (sense_a.mean(axis=0, dtype=np.float64) + sense_b.mean(axis=0, dtype=np.float64)) / 2


def order_parameter(
    residual: Float[np.ndarray, "prompts layers d_model"], directions: Float[np.ndarray, "*draws d_model"]
) -> Float[np.ndarray, "*draws prompts layers"]:
    """σ(l) = cos(φ(l), ê) with one unit ê for all layers (docs/meaning.md, σ), for any number of directions at once.

    A number in [−1, 1]; 0 where φ or ê is 0. Every stage has σ from here, in float64.
    """
    flat = unit(residual.astype(np.float64)).reshape(-1, residual.shape[-1])
    along = directions.reshape(-1, directions.shape[-1]).astype(np.float64) @ flat.T
    return along.reshape(*directions.shape[:-1], *residual.shape[:-1])


def centred_order_parameter(
    residual: Float[np.ndarray, "prompts layers d_model"],
    direction: Float[np.ndarray, "layers d_model"],
    midpoint: Float[np.ndarray, "layers d_model"],
) -> Float[np.ndarray, "prompts layers"]:
    """cos(φ(l) − midpoint(l), ê(l)): what remains of σ when the two senses' common part is taken out.

    A residual equal to the midpoint up to rounding (the embedding of one and the same token) counts as 0.
    """
    offset = residual.astype(np.float64) - midpoint
    offset[np.linalg.norm(offset, axis=-1) < 1e-6 * np.linalg.norm(midpoint, axis=-1)] = 0.0
    return np.einsum("pld,ld->pl", unit(offset), direction)


@dataclass(frozen=True)
class Fan:
    """σ of one word's five conditions, strong_A to strong_B, mean over the prompts of each.

    Attributes:
        sigma: plain. centred: what is left of it when the senses' common part is taken out.
    """

    sigma: Float[np.ndarray, "conditions layers"]
    centred: Float[np.ndarray, "conditions layers"]

    @property
    def separation(self) -> float:
        """σ(L) of strong_A − σ(L) of strong_B."""
        return float(self.sigma[0, -1] - self.sigma[-1, -1])

    @property
    def ordered(self) -> bool:
        """Whether σ(L) falls from each condition to the next; of orders at random one in 120 does."""
        return bool(np.all(np.diff(self.sigma[:, -1]) < 0))

    @property
    def order_tau(self) -> float:
        """Kendall's τ of σ(L) with the order of the conditions: 1 in order, 0 by chance, −1 reversed."""
        return float(stats.kendalltau(self.sigma[:, -1], -np.arange(len(self.sigma))).statistic)

    @property
    def collapse_variance(self) -> float:
        """`collapse_variance` of σ, with h = σ(L) / max |σ(L)| over the conditions."""
        return collapse_variance(self.sigma[:, -1] / np.abs(self.sigma[:, -1]).max(), self.sigma)


def published_collapse_variance(sigma: Float[np.ndarray, "conditions layers"]) -> float:
    """How far σ(l)/h is from one curve for all conditions, as it was published: mean over layers of Var(σ(l)/h).

    h = (σ(L) − m) / r with m the middle and r half the distance between σ(L) of the first condition and of the last;
    conditions with |h| ≤ 0.05 are left out (docs/meaning.md, Published definitions). In squared cosines.
    """
    final = sigma[:, -1]
    half = (final[0] - final[-1]) / 2
    h = (final - (final[0] + final[-1]) / 2) / half
    kept = np.abs(h) > 0.05
    return float((sigma[kept] / h[kept, None]).var(axis=0).mean())


def collapse_variance(h: Float[np.ndarray, "conditions"], sigma: Float[np.ndarray, "conditions layers"]) -> float:
    """How far σ(l)/h is from one curve F(l) for all conditions, in units of that curve's square.

    Σ_l Var_h²(σ(l)/h) / Σ_l F(l)², mean and variance weighted by h² (a condition with h near 0 says nothing about
    σ/h): F = Σ h σ / Σ h². 0 is a perfect collapse.
    """
    curve = h @ sigma / np.square(h).sum()
    spread = np.square(sigma - np.outer(h, curve)).sum() / np.square(h).sum()
    return float(spread / np.square(curve).sum())


def measure_fans(activations: Activations, layer: int) -> dict[str, Fan]:
    """Every word's fan along the contrast of its direction prompts at `layer`.

    Raises PermeationError where a word has no contrast there, or its two strong contexts are the same.
    """
    fans = {}
    for word in activations.words:
        a, b = (activations.of(word, "direction", sense) for sense in SENSES)
        check_contrast(word, a[:, layer], b[:, layer])
        along, own, middle = contrast(a[:, layer], b[:, layer]), contrast(a, b), midpoint(a, b)
        measured = [activations.of(word, "condition", condition) for condition in CONDITIONS]
        fans[word] = Fan(
            np.stack([order_parameter(residual, along).mean(axis=0) for residual in measured]),
            np.stack([centred_order_parameter(residual, own, middle).mean(axis=0) for residual in measured]),
        )
        if fans[word].separation == 0:
            raise PermeationError(
                f"{word}: strong_A and strong_B give the same σ at the last layer; accepted: conditions that differ"
            )
    return fans


def fan_rows(fans: Mapping[str, Fan]) -> list[dict[str, Any]]:
    """A row per word, condition and layer, for plots/sigma.json."""
    return [
        {"word": word, "condition": condition, "depth": x, "sigma": plain, "centred_sigma": centred}
        for word, fan in fans.items()
        for condition, *columns in zip(CONDITIONS, fan.sigma, fan.centred, strict=True)
        for x, plain, centred in zip(np.linspace(0, 1, fan.sigma.shape[1]), *columns, strict=True)
    ]

"""Leave one model out: what the others' mean M and K components make of its matrices X, and what that costs.

With D = X − M, V the stacked components of the others, U those of D alone, R random directions:

    mean                 M
    mean and K           M + D V_K V_Kᵀ
    K alone              D V_K V_Kᵀ
    mean and random K    M + s D R_K R_Kᵀ       s: of the same energy as D V_K V_Kᵀ
    mean and own K       M + D U_K U_Kᵀ         the limit: no K directions of the inputs do better

All matrices of the model are replaced at once. An adapter's X is its update: with K = 0 alone it is the base model. The
ratio is of perplexities, to the model as it was; its interval is over models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.seeds import named_seed
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.nll import window_nll
from permeation.perplexity.ratio import Estimate, estimate
from permeation.universal.stack import Key, Matrix, Stack, matrices
from permeation.universal.subspace import leading, random_frame, scatter

MEAN, SHARED, ALONE, RANDOM, OWN = "mean", "mean and K", "K alone", "mean and random K", "mean and own K"
Losses = dict[tuple[str, int], Float[np.ndarray, "models"]]  # nats a token, by curve and K


@dataclass(frozen=True)
class Left:
    """One matrix of the left-out model beside the others': M, D, and the directions V, U and R."""

    M: Float[Tensor, "outputs inputs"]
    D: Float[Tensor, "outputs inputs"]
    V: Float[Tensor, "inputs shared"]
    U: Float[Tensor, "inputs own"]
    R: Float[Tensor, "inputs random"]

    @classmethod
    def of(cls, X: Float[Tensor, "models outputs inputs"], i: int, count: int, generator: torch.Generator) -> Left:
        """Model i left out; `count` is the largest K."""
        X = X.double()
        others = X[torch.arange(len(X)) != i]
        M, d = others.mean(0), X.shape[2]
        D = X[i] - M
        R = random_frame(d, min(count, d), generator)
        return cls(M, D, leading(scatter(others - M), count), leading(D.T @ D, count), R)

    def rebuilt(self, curve: str, K: int) -> Float[Tensor, "outputs inputs"]:
        """What stands in place of X."""
        frame = {MEAN: self.V[:, :0], SHARED: self.V, ALONE: self.V, RANDOM: self.R, OWN: self.U}[curve][:, :K]
        part = self.D @ frame @ frame.T
        if curve == RANDOM:
            part *= (self.D @ self.V[:, :K]).norm() / part.norm().clamp(min=1e-300)
        return part if curve == ALONE else self.M + part


@contextmanager
def added(places: Mapping[Key, Matrix], changes: Mapping[Key, Tensor]) -> Iterator[None]:
    """The model with these changes added to its matrices, within the block."""
    before = {key: places[key].read().clone() for key in changes}
    try:
        for key, W in before.items():
            places[key].write((W.double() + changes[key].to(W.device)).to(W))
        yield
    finally:
        for key, W in before.items():
            places[key].write(W)


@dataclass(frozen=True)
class LeaveOneOut:
    """Measures one left-out model after the other.

    Attributes:
        stack: all models. windows: the text on which each is measured. counts: the list of K. seed: of random K.
        device: where the models are scored.
    """

    stack: Stack
    windows: Sequence[Int[Tensor, "windows context"]]
    counts: tuple[int, ...]
    seed: int
    device: str

    @property
    def folders(self) -> tuple[Path, ...]:
        """What workers need to see."""
        return (self.stack.folder,)

    def __call__(self, i: int) -> list[dict[str, Any]]:
        """Nats a token that model i loses, by curve and K; first those that it has as it is."""
        windows = self.windows[i]
        model = prepare_for_scoring(self.stack.members[i].load(self.device), "float32", windows.shape[1])
        places = {matrix.key: matrix for matrix in matrices(model)}
        lefts = {}
        for key in self.stack.shapes:
            generator = torch.Generator().manual_seed(named_seed(self.seed, f"random K, {key}, {i}"))
            lefts[key] = Left.of(self.stack[key], i, max(self.counts), generator)

        def nll() -> float:
            return float(sum(batch.sum() for batch in window_nll(model, windows))) / windows[:, 1:].numel()

        untouched = nll()
        rows: list[dict[str, Any]] = [{"curve": "untouched", "components": 0, "nll": untouched}]
        curves = ((curve, K) for curve in (SHARED, ALONE, RANDOM, OWN) for K in self.counts)
        for curve, K in ((MEAN, 0), (ALONE, 0), *curves):
            with added(places, {key: left.rebuilt(curve, K) - left.D - left.M for key, left in lefts.items()}):
                rows.append({"curve": curve, "components": K, "nll": nll() - untouched})
        return rows


def losses(models: Sequence[Sequence[Mapping[str, Any]]]) -> Losses:
    """The rows of `LeaveOneOut` of all models, model by model."""
    lost: dict[tuple[str, int], list[float]] = {}
    for _, *rows in models:
        for row in rows:
            lost.setdefault((row["curve"], row["components"]), []).append(row["nll"])
    return {key: np.array(x) for key, x in lost.items()}


def over_models(x: Float[np.ndarray, "models"]) -> Estimate:
    """exp of the mean of nats a token, one number a model: the geometric mean ratio, with Student's interval."""
    return estimate(x, np.arange(len(x)), 1)

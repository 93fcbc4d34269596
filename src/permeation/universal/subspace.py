"""What one matrix has in common over n models, beside chance; and one model rebuilt from the others.

X_i is model i's matrix, m outputs × d inputs; M is the models' mean. The share of K components is that of the K largest
eigenvalues of

    rows      C = Σ_i (X_i − M)ᵀ (X_i − M)      d × d; as published, the rows of all models are stacked
    points    G_ij = ⟨X_i − M, X_j − M⟩         n × n; each model is one point

and of the same with the mean left in.

One model left out: M and the components V are those of the others, D = X − M. U: D's own components. R: random ones.

    mean                 M
    mean and K           M + D V_K V_Kᵀ
    K alone              D V_K V_Kᵀ
    mean and random K    M + s D R_K R_Kᵀ       s: of the same energy as D V_K V_Kᵀ
    mean and own K       M + D U_K U_Kᵀ         the limit: no K directions of the inputs do better

Everything is in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

NEGLIGIBLE = 1e-10  # of the largest eigenvalue: what is below is rounding
MEAN, SHARED, ALONE, RANDOM, OWN_K = "mean", "mean and K", "K alone", "mean and random K", "mean and own K"

Matrices = Float[Tensor, "models outputs inputs"]
Square = Float[Tensor, "inputs inputs"]


def scatter(X: Matrices) -> Square:
    """C."""
    rows = (X.double() - X.double().mean(0)).flatten(0, 1)
    return rows.T @ rows


def spectra(X: Matrices) -> dict[str, Float[Tensor, "components"]]:
    """The spectrum of the `rows` and the `points`, and of both `_with_mean`."""
    found: dict[str, Float[Tensor, "components"]] = {}
    for end, each in (("", X.double() - X.double().mean(0)), ("_with_mean", X.double())):
        rows, points = each.flatten(0, 1), each.flatten(1)
        found |= {f"rows{end}": spectrum(rows.T @ rows), f"points{end}": spectrum(points @ points.T)}
    return found


def spectrum(C: Float[Tensor, "d d"]) -> Float[Tensor, "d"]:
    """The share of the first K components, for K = 1, 2 …"""
    energies = torch.linalg.eigvalsh(C).flip(0)
    return energies.cumsum(0) / energies.sum()


def components_for(shares: Float[Tensor, "d"], share: float) -> int:
    """The smallest K whose share is at least `share`."""
    return int((shares < share - 1e-12).sum()) + 1


def leading(C: Float[Tensor, "d d"], count: int) -> Float[Tensor, "d components"]:
    """The eigenvectors of the `count` largest eigenvalues, largest first; fewer where there are no more."""
    values, vectors = torch.linalg.eigh(C)
    return vectors.flip(1)[:, : min(count, int((values > NEGLIGIBLE * values[-1]).sum()))]


def random_frame(d: int, count: int, generator: torch.Generator) -> Float[Tensor, "d count"]:
    """Orthonormal columns, uniformly distributed."""
    return torch.nn.init.orthogonal_(torch.empty(d, count, dtype=torch.float64), generator=generator)


def rotated(X: Matrices, generator: torch.Generator) -> Matrices:
    """Null model: X_i R_i with a random rotation each. Singular values stay; no direction of the inputs is shared."""
    d = X.shape[2]
    return torch.stack([each.double() @ random_frame(d, d, generator) for each in X])


def filtered(null: Matrices, S: Square) -> Matrices:
    """Null model: X_i R_i S^½ of norm ‖X_i‖, from X_i R_i and S = E x xᵀ of what the layer reads.

    A gradient is Σ δ xᵀ: an update lies where the inputs lie, whatever is learned.
    """
    values, vectors = torch.linalg.eigh(S)
    found = null @ (vectors * values.clamp(min=0).sqrt() @ vectors.T)
    return found * (torch.linalg.matrix_norm(null) / torch.linalg.matrix_norm(found))[:, None, None]


def on_inputs(C: Square, S: Square) -> Float[Tensor, "inputs"]:
    """The share of C on the leading K directions of the inputs, for K = 1, 2 … They know no weights."""
    E = torch.linalg.eigh(S).eigenvectors.flip(1)
    energies = (E * (C @ E)).sum(0)
    return energies.cumsum(0) / energies.sum()


@dataclass(frozen=True)
class Left:
    """One matrix of the left-out model beside the others': M, D, and each curve's directions V, R or U."""

    M: Float[Tensor, "outputs inputs"]
    D: Float[Tensor, "outputs inputs"]
    frames: dict[str, Float[Tensor, "inputs _components"]]

    @classmethod
    def of(cls, X: Matrices, i: int, count: int, generator: torch.Generator) -> Left:
        """Model i left out; `count` is the largest K."""
        others = X[torch.arange(len(X)) != i].double()
        M, d = others.mean(0), X.shape[2]
        D, V = X[i].double() - M, leading(scatter(others), count)
        R, U = random_frame(d, min(count, d), generator), leading(D.T @ D, count)
        return cls(M, D, {MEAN: V, SHARED: V, ALONE: V, RANDOM: R, OWN_K: U})

    def rebuilt(self, curve: str, K: int) -> Float[Tensor, "outputs inputs"]:
        """What stands in place of X; K is 0 for the mean."""
        frame = self.frames[curve][:, :K]
        part = self.D @ frame @ frame.T
        if curve == RANDOM:
            part *= (self.D @ self.frames[SHARED][:, :K]).norm() / part.norm().clamp(min=1e-300)
        return part if curve == ALONE else self.M + part

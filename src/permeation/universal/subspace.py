"""What one matrix has in common over n models, and what it would have by chance.

X_i is model i's matrix, m outputs × d inputs; M is the models' mean, or 0 where the mean is not taken out.

    stacked   C = Σ_i (X_i − M)ᵀ (X_i − M)     d × d, as published: the rows of all models, one below the other
    points    G_ij = ⟨X_i − M, X_j − M⟩        n × n: each model is one point

The share of K components is that of the K largest eigenvalues. Everything is in float64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SHARES = (0.50, 0.80, 0.90, 0.95, 0.99)
NEGLIGIBLE = 1e-10  # of the largest eigenvalue: what is below is rounding


def scatter(X: Float[Tensor, "models outputs inputs"]) -> Float[Tensor, "inputs inputs"]:
    """C."""
    rows = X.flatten(0, 1)
    return rows.T @ rows


def kernel(X: Float[Tensor, "models outputs inputs"]) -> Float[Tensor, "models models"]:
    """G."""
    flat = X.flatten(1)
    return flat @ flat.T


def leading(C: Float[Tensor, "d d"], count: int) -> Float[Tensor, "d components"]:
    """The eigenvectors of the `count` largest eigenvalues, largest first; fewer where there are no more."""
    values, vectors = torch.linalg.eigh(C)
    return vectors.flip(1)[:, : min(count, int((values > NEGLIGIBLE * values[-1]).sum()))]


def spectra(X: Float[Tensor, "models outputs inputs"]) -> dict[str, Float[Tensor, "components"]]:
    """Cumulative shares of the components, by view: stacked or points, as they are or with the mean taken out."""
    X = X.double()
    of = {"": X, ", mean taken out": X - X.mean(0)}
    matrices = {f"stacked{how}": scatter(each) for how, each in of.items()}
    matrices |= {f"points{how}": kernel(each) for how, each in of.items()}
    return {view: cumulative(torch.linalg.eigvalsh(C).flip(0).clamp(min=0)) for view, C in matrices.items()}


def cumulative(energies: Float[Tensor, "components"]) -> Float[Tensor, "components"]:
    """The share of the first K, for K = 1, 2 …; 1 where there is no energy to share."""
    total = energies.sum()
    return energies.cumsum(0) / total if total > 0 else torch.ones_like(energies)


def components_for(shares: Float[Tensor, "components"], share: float) -> int:
    """The smallest K whose share is at least `share`."""
    return int((shares < share - 1e-12).sum()) + 1


def random_frame(d: int, count: int, generator: torch.Generator) -> Float[Tensor, "d count"]:
    """Orthonormal columns, uniformly distributed."""
    return torch.nn.init.orthogonal_(torch.empty(d, count, dtype=torch.float64), generator=generator)


def independent(
    X: Float[Tensor, "models outputs inputs"], generator: torch.Generator
) -> Float[Tensor, "models outputs inputs"]:
    """Null model: X_i R_i with a random rotation each. Spectra stay; no direction of the inputs is shared."""
    d = X.shape[2]
    return torch.stack([each.double() @ random_frame(d, d, generator) for each in X])


def filtered(
    rotated: Float[Tensor, "models outputs inputs"], S: Float[Tensor, "inputs inputs"]
) -> Float[Tensor, "models outputs inputs"]:
    """Null model: X_i R_i S^½ of norm ‖X_i‖, from X_i R_i and S = E x xᵀ of what the layer reads.

    A gradient is Σ δ xᵀ: an update lies where the inputs lie, whatever is learned.
    """
    values, vectors = torch.linalg.eigh(S)
    null = rotated @ (vectors * values.clamp(min=0).sqrt() @ vectors.T)
    wanted, found = (torch.linalg.matrix_norm(each, keepdim=True) for each in (rotated, null))
    return null * (wanted / found.clamp(min=1e-300))


def on_inputs(
    X: Float[Tensor, "models outputs inputs"], S: Float[Tensor, "inputs inputs"]
) -> Float[Tensor, "components"]:
    """Cumulative share of C, mean taken out, on the leading directions of the inputs, which know no weights."""
    X = X.double()
    E = torch.linalg.eigh(S).eigenvectors.flip(1)
    return cumulative(torch.einsum("dk,de,ek->k", E, scatter(X - X.mean(0)), E))

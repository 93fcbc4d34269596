"""PCA of the heads in any inner product, from the n × n kernel alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class KernelPca:
    """Principal components of n heads, held in the basis of the heads themselves.

    With G the (centred) kernel and G = U Λ Uᵀ, the k-th component is Σ_i U_ik M_i / √λ_k, head i's coefficient on it
    is √λ_k U_ik, and the heads rebuilt from the first K components are M̂ = R M with the n × n mixing matrix
    R = U_K U_Kᵀ (where centred: of what is left of the mean): every quantity needs U and Λ only.

    Attributes:
        eigenvalues: λ, falling, n of them (the last is 0 where centred).
        vectors: U, orthonormal columns. centred: whether the mean head was taken out.
    """

    eigenvalues: Float[Tensor, "n"]
    vectors: Float[Tensor, "n n"]
    centred: bool

    @property
    def count(self) -> int:
        """n: the heads that were analysed."""
        return len(self.eigenvalues)

    @property
    def explained_variance_ratio(self) -> Float[Tensor, "n"]:
        """λ_k / Σ λ: each component's share of the variance."""
        return self.eigenvalues / self.eigenvalues.sum()

    @property
    def coefficients(self) -> Float[Tensor, "n n"]:
        """√λ_k U_ik: head i's coordinate on component k, in units of ‖M‖_F."""
        return self.vectors * self.eigenvalues.sqrt()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], centred: bool) -> KernelPca:
        """What `tensors` gave."""
        return cls(tensors["eigenvalues"], tensors["vectors"], centred)

    def tensors(self) -> dict[str, Tensor]:
        """Eigenvalues, vectors and coefficients by name, as they are saved."""
        named = {"eigenvalues": self.eigenvalues, "vectors": self.vectors, "coefficients": self.coefficients}
        return {name: tensor.contiguous() for name, tensor in named.items()}

    def components_for(self, share: float) -> int:
        """The smallest number of components that explains at least `share` of the variance."""
        return int((self.explained_variance_ratio.cumsum(0) < share - 1e-12).sum()) + 1

    def mixing(self, components: int) -> Float[Tensor, "n n"]:
        """R: the heads rebuilt from the first `components` components are R M; the identity for all of them."""
        kept = self.vectors[:, :components]
        mixing = kept @ kept.T
        # Where centred, the components act on M − M̄ and M̄ is added back: R = U_K U_Kᵀ (I − 11ᵀ/n) + 11ᵀ/n.
        return mixing - mixing.mean(dim=1, keepdim=True) + 1 / len(mixing) if self.centred else mixing

    def bands(self, count: int) -> list[range]:
        """The components that carry variance in `count` runs of equal length (to one), largest variance first."""
        carrying = self.count - self.centred
        edges = [i * carrying // count for i in range(count + 1)]
        return [range(first, last) for first, last in pairwise(edges)]

    def mixing_without(self, components: range) -> Float[Tensor, "n n"]:
        """R = I − U_B U_Bᵀ: the heads without these components, the mean and all others kept."""
        dropped = self.vectors[:, components.start : components.stop]
        return torch.eye(self.count, dtype=dropped.dtype, device=dropped.device) - dropped @ dropped.T


def fit_pca(kernel: Float[Tensor, "n n"], center: bool) -> KernelPca:
    """Principal components from the kernel ⟨M_i, M_j⟩, in float64."""
    if center:
        kernel = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    values, vectors = torch.linalg.eigh(kernel)
    return KernelPca(values.flip(0).clamp(min=0), vectors.flip(1), center)


def share_table(pca: KernelPca, shares: Sequence[float]) -> dict[str, int]:
    """Components needed per share of the variance, keyed by whole percent."""
    return {f"{share * 100:.0f}": pca.components_for(share) for share in shares}

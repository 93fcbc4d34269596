"""PCA of the heads in any inner product, from the n × n kernel G_ij = ⟨M_i, M_j⟩ alone.

With G (centred) = U Λ Uᵀ: component k is Σ_i U_ik M_i / √λ_k, and head i's coefficient on it √λ_k U_ik. The heads
rebuilt from the first K components are M̂ = R M with R = U_K U_Kᵀ, where centred on what is left of the mean head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class KernelPca:
    """Principal components of n heads, held in the basis of the heads themselves.

    Attributes:
        eigenvalues: λ, falling (the last is 0 where centred). vectors: U, orthonormal columns.
        centred: whether the mean head was taken out.
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
        """λ_k / Σ λ: each component's share of the variance; 0 where heads that are all alike have none."""
        return (self.eigenvalues / self.eigenvalues.sum()).nan_to_num()

    @property
    def coefficients(self) -> Float[Tensor, "n n"]:
        """√λ_k U_ik: head i's coordinate on component k, in units of ‖M‖_F."""
        return self.vectors * self.eigenvalues.sqrt()

    @classmethod
    def read(cls, folder: Path, form: str) -> KernelPca:
        """The components of one form of W_QK that `write` left in a folder."""
        tensors = load_file(folder / f"{form}.safetensors")
        return cls(tensors["eigenvalues"], tensors["vectors"], bool(tensors["centred"]))

    def write(self, folder: Path, form: str) -> None:
        """Write <form>.safetensors: eigenvalues, vectors, and whether they are centred."""
        tensors = {"eigenvalues": self.eigenvalues, "vectors": self.vectors, "centred": torch.tensor(self.centred)}
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, folder / f"{form}.safetensors")

    def components_for(self, share: float) -> int:
        """The smallest number of components that explains at least `share` of the variance; 0 where there is none."""
        if not self.eigenvalues.any():
            return 0
        return int((self.explained_variance_ratio.cumsum(0) < share - 1e-12).sum()) + 1

    def share_table(self, shares: Sequence[float]) -> dict[str, int]:
        """Components needed per share of the variance, keyed by whole percent."""
        return {f"{share * 100:.0f}": self.components_for(share) for share in shares}

    def number_of(self, asked: int | str) -> int | None:
        """How many components a K list's entry asks for: a count, "all", or "90%" as `components_for` has it.

        None for a count beyond the number of heads.
        """
        if asked == "all":
            return self.count
        if isinstance(asked, str):
            return self.components_for(float(asked.rstrip("%")) / 100)
        return asked if asked <= self.count else None

    def mixing(self, components: int) -> Float[Tensor, "n n"]:
        """R: the heads rebuilt from the first `components` components are R M; the identity for all of them."""
        kept = self.vectors[:, :components]
        mixing = kept @ kept.T
        # Where centred, the components act on M − M̄ and M̄ is added back: R = U_K U_Kᵀ (I − 11ᵀ/n) + 11ᵀ/n.
        return mixing - mixing.mean(dim=1, keepdim=True) + 1 / len(mixing) if self.centred else mixing

    def bands(self, count: int) -> list[range]:
        """The components that carry variance in `count` runs of equal length (to one), largest variance first."""
        carrying = self.count - self.centred
        return [range(*edges) for edges in pairwise(i * carrying // count for i in range(count + 1))]

    def mixing_without(self, components: range) -> Float[Tensor, "n n"]:
        """R = I − U_B U_Bᵀ: the heads without these components, the mean and all others kept."""
        dropped = self.vectors[:, components.start : components.stop]
        return torch.eye(self.count, dtype=dropped.dtype, device=dropped.device) - dropped @ dropped.T


def fit_pca(kernel: Float[Tensor, "n n"], center: bool) -> KernelPca:
    """Principal components from the kernel, in float64.

    A component's sign is free; here its largest entry is positive, on every machine.
    """
    if center:
        kernel = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    values, vectors = torch.linalg.eigh(kernel)
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return KernelPca(values.flip(0).clamp(min=0), vectors.flip(1), center)

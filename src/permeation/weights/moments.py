"""Moments of what the attention layers read, collected in one pass over a text, and the metric they define."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.models.families import attention_outputs, attention_views
from permeation.weights.heads import gathered


@dataclass(frozen=True)
class Moments:
    """Moments over `tokens` tokens of x, the input of each layer's W_Q and W_K behind the norm, in float64.

    Attributes:
        mean: E x. second: E x xᵀ. third: E ‖x‖² x. fourth: E ‖x‖⁴.
    """

    tokens: Int[Tensor, ""]
    mean: Float[Tensor, "layers d_model"]
    second: Float[Tensor, "layers d_model d_model"]
    third: Float[Tensor, "layers d_model"]
    fourth: Float[Tensor, "layers"]

    @classmethod
    def read(cls, folder: Path, name: str = "moments") -> Moments:
        """The moments that `write` left in a folder."""
        return cls(**load_file(folder / f"{name}.safetensors"))

    def write(self, folder: Path, name: str = "moments") -> None:
        """Write <name>.safetensors, the moments by name."""
        save_file({field.name: getattr(self, field.name) for field in fields(self)}, folder / f"{name}.safetensors")

    def part(self, layers: slice) -> Moments:
        """The moments of some layers."""
        return Moments(self.tokens, *(getattr(self, field.name)[layers] for field in fields(self)[1:]))

    def layers(self) -> Iterator[Moments]:
        """The moments of one layer after the other: `second` is (1, d_model, d_model)."""
        return (self.part(slice(i, i + 1)) for i in range(len(self.mean)))

    @property
    def covariance(self) -> Float[Tensor, "layers d_model d_model"]:
        """E x xᵀ − E x E xᵀ."""
        return self.second - self.mean[:, :, None] * self.mean[:, None, :]

    @property
    def shrinkage(self) -> Float[Tensor, "layers"]:
        """Ledoit and Wolf's weight a of the multiple of the identity, per layer.

        a = min(1, β / δ) with δ = ‖Σ − μ I‖²_F, μ = tr Σ / d and β = (E ‖x − x̄‖⁴ − ‖Σ‖²_F) / tokens: the weight of
        least expected error for independent samples (J. Multivariate Analysis 88 (2004) 365), from moments, so that no
        sample is kept. Neighbouring tokens are not independent, so it errs to the small side.
        """
        covariance, m = self.covariance, self.mean
        c = (m * m).sum(1)
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1)
        # E (‖x‖² − 2 m·x + ‖m‖²)², multiplied out.
        spread = (
            self.fourth
            + 4 * torch.einsum("li,lij,lj->l", m, self.second, m)
            - 4 * (m * self.third).sum(1)
            + 2 * c * (trace + c)
            - 3 * c * c
        )
        squared = covariance.square().sum(dim=(1, 2))
        delta = squared - trace**2 / m.shape[1]
        return ((spread - squared) / self.tokens / delta).clamp(max=1)

    @property
    def shrunk_covariance(self) -> Float[Tensor, "layers d_model d_model"]:
        """(1 − a) Σ + a (tr Σ / d) I: positive definite, however few tokens there were."""
        covariance, a = self.covariance, self.shrinkage[:, None, None]
        scale = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        return (1 - a) * covariance + a * scale * torch.eye(covariance.shape[-1]).to(covariance)

    @property
    def shrunk(self) -> Float[Tensor, "layers d_model d_model"]:
        """The second moments S = Σ_shrunk + x̄ x̄ᵀ."""
        return self.shrunk_covariance + self.mean[:, :, None] * self.mean[:, None, :]

    @property
    def augmented(self) -> Float[Tensor, "layers augmented augmented"]:
        """`shrunk` for x with a 1 appended, (S x̄; x̄ᵀ 1): with it a bias is one more row of W."""
        column = self.mean[:, :, None]
        one = column.new_ones(len(column), 1, 1)
        return torch.cat([torch.cat([self.shrunk, column], 2), torch.cat([column.mT, one], 2)], 1)

    @cached_property
    def shrunk_root(self) -> Float[Tensor, "layers d_model d_model"]:
        """The symmetric S^½ of `shrunk`, per layer."""
        return gathered(((symmetric_root(layer.shrunk),) for layer in self.layers()), len(self.mean))[0]

    @cached_property
    def centred_root(self) -> Float[Tensor, "layers d_model d_model"]:
        """The symmetric Σ^½ of `shrunk_covariance`, per layer."""
        return gathered(((symmetric_root(layer.shrunk_covariance),) for layer in self.layers()), len(self.mean))[0]

    @cached_property
    def augmented_root(self) -> Float[Tensor, "layers augmented augmented"]:
        """The symmetric S^½ of `augmented`, per layer."""
        return gathered(((symmetric_root(layer.augmented),) for layer in self.layers()), len(self.mean))[0]


def symmetric_root(S: Float[Tensor, "*layers d d"]) -> Float[Tensor, "*layers d d"]:
    """The symmetric S^½ of positive semidefinite matrices."""
    values, vectors = torch.linalg.eigh(S)
    return vectors * values.clamp(min=0).sqrt()[..., None, :] @ vectors.mT


def triangular_root(S: Float[Tensor, "*layers d d"]) -> Float[Tensor, "*layers d d"]:
    """The upper triangular F with Fᵀ F = S of positive definite matrices.

    F = O S^½ with an orthogonal O, in a fraction of the time: F W has the singular values and right singular vectors of
    S^½ W. With U the left ones of F W, F⁻¹ U is what S^−½ makes of those of S^½ W.
    """
    return torch.linalg.cholesky(S, upper=True)


@torch.inference_mode()
def collect(model: Any, batches: Iterable[Int[Tensor, "_batch context"]], outputs: bool = False) -> Moments:
    """Run the model over windows and add up the moments of what W_Q and W_K read; memory is O(L d²).

    With folded norms (permeation.models.fold) this is the input of the folded weights. With `outputs` of what W_O
    reads, the heads' outputs side by side. Raises PermeationError where an activation is not finite.
    """
    if outputs:
        layers = [(layer.projection, layer.W_O.flatten(0, 1)) for layer in attention_outputs(model)]
    else:
        layers = [(layer.projections[0], layer.W_Q[0]) for layer in attention_views(model)]
    d_model = len(layers[0][1])
    home = "cpu" if model.device.type == "mps" else model.device  # MPS has no float64
    shapes = ((d_model,), (d_model, d_model), (d_model,), ())
    sums = [torch.zeros(len(layers), *shape, dtype=torch.float64, device=home) for shape in shapes]
    mean, second, third, fourth = sums

    def add(layer: int, _module: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2).to(home).double()
        norm = x.square().sum(1)
        mean[layer] += x.sum(0)
        second[layer] += x.T @ x
        third[layer] += norm @ x
        fourth[layer] += norm.square().sum()

    tokens = 0
    with ExitStack() as hooks, fast_products():
        for i, (reader, _) in enumerate(layers):
            hooks.callback(reader.register_forward_pre_hook(partial(add, i)).remove)
        for batch in batches:
            model.base_model(batch.to(model.device), use_cache=False)
            tokens += batch.numel()
    if not (finite := fourth.isfinite()).all():
        first = int(finite.logical_not().nonzero()[0])
        raise PermeationError(f"what attention reads holds values that are not finite, first in layer {first}")
    return Moments(torch.tensor(tokens), *(total.div_(tokens) for total in sums))

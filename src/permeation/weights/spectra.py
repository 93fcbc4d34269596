"""The spectra of the heads' W_QK in every form, beside those of random heads (formula: permeation.weights.pca)."""

from __future__ import annotations

from typing import Any

import torch

from permeation.frame.seeds import named_seed
from permeation.weights.forms import FORMS, circuit_kernel, gram_kernel, score_kernel, written_kernel
from permeation.weights.heads import Heads, writing_heads
from permeation.weights.moments import Moments
from permeation.weights.pca import KernelPca, fit_pca
from permeation.weights.random_heads import random_gram_kernel, random_heads, random_score_kernel, with_norms

SHARES = (0.50, 0.80, 0.90, 0.95, 0.99)
KINDS = {"own": "as they are", "null": "random frames"}  # of heads: the key in the metrics, and the words in the tables

Fits = dict[str, dict[str, KernelPca]]  # by form (permeation.weights.forms, and `unfolded`) and kind of heads


def fit_spectra(heads: Heads, unfolded: Heads, moments: Moments, center: bool, seed: int) -> Fits:
    """Principal components of the heads and of random heads, by form and kind.

    heads: with W_V and W_O; `written` and `written_score` are forms of W_OV. unfolded: the heads without the scales of
    the norm in front, looked at in gram form.
    """
    writes = writing_heads(heads)

    def generator(form: str) -> torch.Generator:
        return torch.Generator().manual_seed(named_seed(seed, f"random heads, {form}"))

    random_writes = random_heads(writes, generator("written"))
    kernels = {
        "gram": (gram_kernel(heads), random_gram_kernel(heads, generator("gram"))),
        "unfolded": (gram_kernel(unfolded), random_gram_kernel(unfolded, generator("unfolded"))),
        "circuit": (circuit_kernel(heads), circuit_kernel(random_heads(heads, generator("circuit")))),
        "written": (circuit_kernel(writes), circuit_kernel(random_writes)),
    }
    own, null = (written_kernel(each, moments) for each in (writes, random_writes))
    kernels["written_score"] = own, with_norms(null, own)
    for form, mean_key in (("score", True), ("score_centred", False)):
        own = score_kernel(heads, moments, mean_key)
        kernels[form] = own, random_score_kernel(heads, moments, own, generator(form), mean_key)
    return {
        form: {kind: fit_pca(kernel, center) for kind, kernel in zip(KINDS, pair, strict=True)}
        for form, pair in kernels.items()
    }


def spectra_summary(fits: Fits) -> dict[str, Any]:
    """components_for_variance and explained_variance_ratio, the gram form's at the top, the others' by form.

    null: components_for_variance of random heads, by form.
    """
    found: dict[str, Any] = {}
    for form, kinds in fits.items():
        first = enumerate(kinds["own"].explained_variance_ratio[:3].tolist(), start=1)
        own = {
            "components_for_variance": kinds["own"].share_table(SHARES),
            "explained_variance_ratio": {str(i): share for i, share in first},
        }
        found |= own if form == "gram" else {form: own}
    return found | {"null": {form: kinds["null"].share_table(SHARES) for form, kinds in fits.items()}}


def spectra_rows(fits: Fits) -> list[dict[str, Any]]:
    """The cumulative share of the variance, by form, kind of heads and number of components."""
    return [
        {"form": form, "heads": KINDS[kind], "components": i, "cumulative": share}
        for form, kinds in fits.items()
        for kind, pca in kinds.items()
        for i, share in enumerate(pca.explained_variance_ratio.cumsum(0).tolist(), start=1)
    ]


def head_rows(fits: Fits, per_layer: int) -> list[dict[str, Any]]:
    """Each head's layer, and its coefficient on the first component, in each form of W_QK."""
    return [
        {"form": form, "layer": i // per_layer, "head": i % per_layer, "component_1": x}
        for form in FORMS
        for i, x in enumerate(fits[form]["own"].coefficients[:, 0].tolist())
    ]

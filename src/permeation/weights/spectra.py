"""The spectra of the heads' W_QK in every form, beside those of random heads."""

from __future__ import annotations

from typing import Any

import torch

from permeation.frame.seeds import named_seed
from permeation.weights.forms import circuit_kernel, gram_kernel, score_kernel, written_kernel
from permeation.weights.heads import Heads, writing_heads
from permeation.weights.moments import Moments
from permeation.weights.pca import KernelPca, fit_pca
from permeation.weights.random_heads import (
    random_gram_kernel,
    random_heads,
    random_score_kernel,
    unit_norm,
    with_norms,
)

SHARES = (0.50, 0.80, 0.90, 0.95, 0.99)
# Kinds of heads: the key in the metrics, and the words in the tables.
KINDS = {
    "own": "as they are",
    "unit": "unit norm",
    "null": "random frames",
    "unit_null": "random frames, unit norm",
}


Fits = dict[str, dict[str, KernelPca]]  # by form (permeation.weights.forms, and `unfolded`) and kind of heads


def fit_spectra(heads: Heads, unfolded: Heads, moments: Moments, center: bool, seed: int) -> Fits:
    """Principal components of the heads and of random heads, by form and kind.

    heads: with W_V and W_O; `written` and `written_score` are forms of W_OV. unfolded: the heads without the scales of
    the norm in front, looked at in gram form.
    """
    writes = writing_heads(heads)

    def generator(form: str) -> torch.Generator:
        return torch.Generator().manual_seed(named_seed(seed, f"random heads, {form}"))

    kernels = {
        "gram": (gram_kernel(heads), random_gram_kernel(heads, generator("gram"))),
        "unfolded": (gram_kernel(unfolded), random_gram_kernel(unfolded, generator("unfolded"))),
        "circuit": (circuit_kernel(heads), circuit_kernel(random_heads(heads, generator("circuit")))),
        "written": (circuit_kernel(writes), circuit_kernel(random_heads(writes, generator("written")))),
    }
    own, null = (written_kernel(each, moments) for each in (writes, random_heads(writes, generator("written"))))
    kernels["written_score"] = own, with_norms(null, own)
    for form, mean_key in (("score", True), ("score_centred", False)):
        own = score_kernel(heads, moments, mean_key)
        kernels[form] = own, random_score_kernel(heads, moments, own, generator(form), mean_key)
    fits = {}
    for form, (own, null) in kernels.items():
        of_kinds = (own, unit_norm(own), null, unit_norm(null))
        fits[form] = {kind: fit_pca(kernel, center) for kind, kernel in zip(KINDS, of_kinds, strict=True)}
    return fits


def spectra_summary(fits: Fits) -> dict[str, Any]:
    """components_for_variance and explained_variance_ratio, the gram form's at the top, the others' by form;
    components_for_variance of the other kinds of heads, by kind and form.
    """
    found: dict[str, Any] = {}
    for form, kinds in fits.items():
        first = enumerate(kinds["own"].explained_variance_ratio[:3].tolist(), start=1)
        own = {
            "components_for_variance": kinds["own"].share_table(SHARES),
            "explained_variance_ratio": {str(i): share for i, share in first},
        }
        found |= own if form == "gram" else {form: own}
    for kind in list(KINDS)[1:]:
        found[kind] = {form: kinds[kind].share_table(SHARES) for form, kinds in fits.items()}
    return found


def spectra_rows(fits: Fits) -> list[dict[str, Any]]:
    """The cumulative share of the variance, by form, kind of heads and number of components."""
    return [
        {"form": form, "heads": KINDS[kind], "components": i, "cumulative": share}
        for form, kinds in fits.items()
        for kind, pca in kinds.items()
        for i, share in enumerate(pca.explained_variance_ratio.cumsum(0).tolist(), start=1)
    ]

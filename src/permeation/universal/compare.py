"""The spectra of models and of their null models, and the tables of what is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor

from permeation.frame.progress import each
from permeation.frame.seeds import named_seed
from permeation.universal.leave_out import MEAN, SHARED, Losses, over_models
from permeation.universal.stack import Key, Member, Stack, input_moments
from permeation.universal.subspace import SHARES, components_for, filtered, independent, on_inputs, spectra

Spectra = dict[str, Float[Tensor, "components"]]  # cumulative shares by view
Found = dict[str, dict[Key, Spectra]]  # by population and matrix
OWN, ROTATED, FILTERED, INPUTS, UNTRAINED = "the models", "rotated", "rotated, as inputs", "inputs", "untrained"
PUBLISHED = "stacked, mean taken out"  # the view that claims are read from


@dataclass(frozen=True)
class Group:
    """Models that are compared, and what they are compared with.

    Attributes:
        name: as in tables. members: the models. windows: the text that each is measured on.
        others: further models whose spectra stand beside, by what they are.
    """

    name: str
    members: Sequence[Member]
    windows: Sequence[Int[Tensor, "windows context"]]
    others: Mapping[str, Sequence[Member]] = field(default_factory=dict)


def find_spectra(group: Group, stack: Stack, folder: Path, seed: int, device: str) -> Found:
    """The spectra of every matrix: of the models, of null models made from them, and of the group's others."""
    moments: dict[Key, Any] = dict.fromkeys(stack.shapes, 0.0)
    for member, windows in each(zip(group.members, group.windows, strict=True), "inputs", len(group.members)):
        for key, S in input_moments(member.load(device), windows, stack.shapes).items():
            moments[key] += S / len(group.members)
    found: Found = {name: {} for name in (OWN, ROTATED, FILTERED, INPUTS)}
    for key in each(stack.shapes, f"spectra, {group.name}", len(stack.shapes)):
        X, generator = stack[key], torch.Generator().manual_seed(named_seed(seed, f"{group.name}, {key}"))
        rotated = independent(X, generator)
        for name, matrices in ((OWN, X), (ROTATED, rotated), (FILTERED, filtered(rotated, moments[key]))):
            found[name][key] = spectra(matrices)
        found[INPUTS][key] = {PUBLISHED: on_inputs(X, moments[key])}
    for name, members in group.others.items():
        other = Stack.read(members, folder / name)
        found[name] = {key: spectra(other[key]) for key in other.shapes}
    return found


def spectrum_rows(group: str, found: Found) -> Iterator[dict[str, Any]]:
    """The share of K = 1, 2, 4 … components, mean over matrices, by population and view."""
    for population, of_keys in found.items():
        for view in next(iter(of_keys.values())):
            curves = [of_view[view] for of_view in of_keys.values()]
            for K in (1 << i for i in range(max(map(len, curves)).bit_length())):
                share = np.mean([float(curve[min(K, len(curve)) - 1]) for curve in curves])
                place = {"models": group, "population": population, "view": view}
                yield place | {"components": K, "cumulative": float(share)}


def dimension_rows(group: str, found: Found) -> Iterator[dict[str, Any]]:
    """How many components each matrix takes for 50 to 99 %, and of how many."""
    for population, of_keys in found.items():
        for (layer, kind), of_view in of_keys.items():
            for view, curve in of_view.items():
                place = {"models": group, "population": population, "view": view, "layer": layer, "kind": kind}
                counts = {f"{share:.0%}": components_for(curve, share) for share in SHARES}
                yield place | counts | {"of": len(curve)}


def over_layers(found: Mapping[Key, float]) -> dict[str, float]:
    """The mean over matrices, and its 95 % interval with layers as the samples."""
    layers = np.array([np.mean([x for key, x in found.items() if key[0] == i]) for i in {key[0] for key in found}])
    margin = float(stdtrit(len(layers) - 1, 0.975) * layers.std(ddof=1) / np.sqrt(len(layers)))
    mean = float(np.mean(list(found.values())))
    return {"value": mean, "low": mean - margin, "high": mean + margin}


def spectrum_summary(found: Found) -> dict[str, Any]:
    """Components for 50 to 99 % as published, and those for 90 % of the null models; means over matrices."""

    def counts(population: str, share: float) -> dict[Key, float]:
        return {key: float(components_for(views[PUBLISHED], share)) for key, views in found[population].items()}

    summary: dict[str, Any] = {
        "components_for_variance": {f"{share * 100:.0f}": over_layers(counts(OWN, share)) for share in SHARES},
        "null": {name: over_layers(counts(name, 0.9))["value"] for name in found if name != OWN},
    }
    if UNTRAINED in found:
        untrained = counts(UNTRAINED, 0.9)
        for name, population in (("untrained_over_trained", OWN), ("untrained_over_rotated", ROTATED)):
            summary[name] = over_layers({key: untrained[key] / of for key, of in counts(population, 0.9).items()})
    return summary


def ratio_rows(group: str, lost: Losses, counts: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The perplexity ratio and its interval over models, by curve and K; the mean alone stands at every K."""
    every = {(MEAN, K): lost[MEAN, 0] for K in counts} | {key: x for key, x in lost.items() if key[0] != MEAN}
    for (curve, K), x in every.items():
        found = over_models(x)
        place = {"models": group, "curve": curve, "components": K}
        yield place | {"ratio": found.value, "low": found.low, "high": found.high}


def ratio_summary(lost: Losses, counts: Iterable[int]) -> dict[str, Any]:
    """Ratios by curve and K; and the mean alone over mean and K, in pairs, at the K nearest to the published 16."""
    K = min(counts, key=lambda count: abs(count - 16))
    against = over_models(lost[MEAN, 0] - lost[SHARED, K])
    summary: dict[str, Any] = {"ratio": {}, "ratio_low": {}, "ratio_high": {}}
    for (curve, count), x in lost.items():
        found = over_models(x)
        for name, value in zip(summary, (found.value, found.low, found.high), strict=True):
            summary[name].setdefault(curve.replace(" ", "_"), {})[str(count)] = value
    return summary | {
        "mean_over_mean_and_k": {"value": against.value, "low": against.low, "high": against.high, "k": K}
    }


def by_claim(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures that claims are about, of all groups: each with its ends, and the null model's."""
    figures: dict[str, dict[str, Any]] = {}
    for group, summary in groups.items():
        found = {name: part for name, part in summary.items() if "_over_" in name}
        for name, figure in (found | {"components_90": summary["components_for_variance"]["90"]}).items():
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                figures.setdefault(f"{name}{end}", {})[group] = figure[key]
        figures.setdefault("null_90", {})[group] = summary["null"][ROTATED]
    return figures

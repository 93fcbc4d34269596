"""Which models are compared, their spectra beside null models, and what each loses when it is rebuilt from the others.

The figures are means over matrices, with layers as the samples, and over models; all are geometric means with Student's
interval (permeation.perplexity.ratio).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from permeation.frame.progress import each
from permeation.frame.seeds import named_seed
from permeation.frame.tables import read_json
from permeation.models.hub import snapshot
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.nll import window_nll
from permeation.perplexity.ratio import estimate
from permeation.perplexity.windows import Text, bos_of
from permeation.universal import subspace
from permeation.universal.stack import Member, Stack, input_moments, layers, weight
from permeation.universal.subspace import ALONE, MEAN, OWN_K, RANDOM, SHARED, Left

# The share of the first K components, by view (subspace.spectra), population and matrix.
Spectra = dict[str, dict[str, dict[str, Float[Tensor, "components"]]]]
THE_MODELS, ROTATED, UNTRAINED = "the models", "rotated", "untrained"
SHARES = (0.50, 0.80, 0.90, 0.95, 0.99)


@dataclass(frozen=True)
class Group:
    """Models that are compared; more models, whose spectra stand beside, by what they are."""

    name: str
    members: Sequence[Member]
    others: Mapping[str, Sequence[Member]]


def made_groups(folder: Path, base: Path, tokens: int) -> list[Group]:
    """The models that `train` wrote into a folder: from scratch, the same aligned, and adapters of `base`."""
    texts = load_file(folder / "held_out.safetensors")
    made: dict[str, list[Member]] = {"scratch": [], "adapters": [], "shuffled": []}
    for path, checkpoint in read_json(folder / "summary.json")["models"].items():
        series, _, name = path.partition("/")
        windows = texts[f"{series}.{name.rpartition('-')[0]}"]
        windows = windows[: tokens // windows.shape[1]]
        made[series].append(Member(name, folder / checkpoint, None if series == "scratch" else base, windows))
    scratch, adapters, shuffled = made.values()
    names, random = {member.name for member in shuffled}, untrained(scratch)
    as_many = [member for member in adapters if member.name in names]
    aligned = [[replace(member, like=models[0]) for member in models] for models in (scratch, random)]
    return [
        Group("scratch", scratch, {UNTRAINED: random}),
        Group("scratch_aligned", aligned[0], {UNTRAINED: aligned[1]}),
        Group("adapters", adapters, {"shuffled targets": shuffled, f"{len(shuffled)} of the models": as_many}),
    ]


def listed_group(names: Sequence[str], corpus: str, context: int, tokens: int) -> Group:
    """Folders or names on the hub, of checkpoints or adapters; all are measured on the same windows of the corpus."""
    members = [_member(name) for name in names]
    tokenizer = load_tokenizer(members[0].base or members[0].folder)
    text = Text.tokenize(tokenizer, fetch_corpus(corpus).text, bos=bos_of(tokenizer, "auto"))
    windows = text.spread(context, tokens).tokens
    others = {} if members[0].base else {UNTRAINED: untrained(members)}
    return Group("models", [replace(member, windows=windows) for member in members], others)


def _member(name: str) -> Member:
    on_hub, _, revision = name.partition("@")
    folder = Path(name) if Path(name).is_dir() else snapshot(on_hub, revision or None)
    if not (adapter := folder / "adapter_config.json").is_file():
        return Member(name, folder)
    told = read_json(adapter)
    base = "@".join(filter(None, (told["base_model_name_or_path"], told.get("revision"))))
    return Member(name, folder, _member(base).folder)


def untrained(members: Sequence[Member]) -> list[Member]:
    """As many untrained models of the same shape."""
    return [Member(f"untrained {i}", m.folder, seed=named_seed(i, "untrained")) for i, m in enumerate(members)]


def find_spectra(group: Group, folder: Path, seed: int, device: str) -> tuple[Stack, Spectra]:
    """The models' weights, written to `folder`; spectra of them, of null models made from them, and of the others."""
    stack = Stack.read(group.members, folder / group.name)
    moments: dict[str, Any] = dict.fromkeys(stack.keys, 0.0)
    for member in each(group.members, "inputs", len(group.members)):
        for key, S in input_moments(member.load(device), member.windows, stack.keys).items():
            moments[key] += S / len(group.members)
    found: Spectra = {}

    def add(population: str, key: str, X: Float[Tensor, "models outputs inputs"]) -> None:
        for view, curve in subspace.spectra(X).items():
            found.setdefault(view, {}).setdefault(population, {})[key] = curve

    for key in each(stack.keys, f"spectra, {group.name}", len(stack.keys)):
        X, generator = stack[key], torch.Generator().manual_seed(named_seed(seed, f"{group.name}, {key}"))
        null = subspace.rotated(X, generator)
        add(THE_MODELS, key, X)
        add(ROTATED, key, null)
        add("rotated, as inputs", key, subspace.filtered(null, moments[key]))
        found["rows"].setdefault("inputs", {})[key] = subspace.on_inputs(subspace.scatter(X), moments[key])
    for name, members in group.others.items():
        other = Stack.read(members, folder / name)
        for key in other.keys:
            add(name, key, other[key])
    return stack, found


def rebuild(
    group: Group, stack: Stack, counts: Sequence[int], seed: int, device: str, i: int
) -> list[tuple[str, int, float]]:
    """Curve, K, and the nats a token that model i loses when all its matrices are rebuilt from the others'.

    counts: the list of K. seed: of the random K.
    """
    member = group.members[i]
    model = member.load(device)
    places = {key: weight(layer) for key, layer in layers(model).items() if key in stack.keys}
    lefts, rest = {}, {}
    for key, W in places.items():
        X, generator = stack[key], torch.Generator().manual_seed(named_seed(seed, f"random {key}, {i}"))
        lefts[key], rest[key] = Left.of(X, i, max(counts), generator), W.cpu() - X[i]  # 0, or W_base

    def nll() -> float:
        return float(sum(batch.sum() for batch in window_nll(model, member.windows))) / member.windows[:, 1:].numel()

    untouched, rows = nll(), []
    for curve, K in ((MEAN, 0), (ALONE, 0), *product((SHARED, ALONE, RANDOM, OWN_K), counts)):
        for key, left in lefts.items():
            places[key].copy_(rest[key] + left.rebuilt(curve, K))
        rows.append((curve, K, nll() - untouched))
    return rows


def figure(logs: Float[np.ndarray, "n"], samples: Sequence[int] | None = None) -> dict[str, float]:
    """The geometric mean and its 95 % interval; what has one number in `samples` counts as one."""
    found = estimate(logs, np.arange(len(logs)) if samples is None else np.array(samples), 1)
    return {"value": found.value, "low": found.low, "high": found.high}


def tables(
    group: Group, spectra: Spectra, left_out: Mapping[str, Sequence[Any]], counts: Sequence[int]
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The summary of a group, and the rows of its charts, from its spectra and what `rebuild` gave of each model.

    In the charts K is 1, 2, 4 …, shares are means over matrices, and the mean alone stands at every K.
    """
    of_models = zip(*left_out.values(), strict=True)
    nats = {(rows[0][0], rows[0][1]): np.array([change for _, _, change in rows]) for rows in of_models}
    K = min(counts, key=lambda count: abs(count - 16))  # the published 16
    summary: dict[str, Any] = spectrum_summary(spectra["rows"])
    summary |= {view: spectrum_summary(curves) for view, curves in spectra.items() if view != "rows"}
    for name, without in (("mean_over_mean_and_k", MEAN), ("base_over_mean_and_k", ALONE)):
        summary[name] = figure(nats[without, 0] - nats[SHARED, K]) | {"k": K}
    summary["ratio"] = {}
    rows = []
    for (curve, count), x in nats.items():
        ratio = summary["ratio"].setdefault(curve.replace(" ", "_"), {})[str(count)] = figure(x)
        for place in counts if curve == MEAN else (count,):
            ends = {"ratio": ratio["value"], "low": ratio["low"], "high": ratio["high"]}
            rows.append({"models": group.name, "curve": curve, "components": place} | ends)
    shares = [
        {"models": group.name, "population": population, "components": count}
        | {"cumulative": float(np.mean([curve[min(count, len(curve)) - 1] for curve in curves.values()]))}
        for population, curves in spectra["rows"].items()
        for count in (1 << i for i in range(max(map(len, curves.values())).bit_length()))
    ]
    return summary, {"spectra": shares, "left_out": rows}


def spectrum_summary(spectra: Mapping[str, Mapping[str, Float[Tensor, "components"]]]) -> dict[str, Any]:
    """Components for 50 to 99 %, for 90 % of the null models, and of untrained ones over the models' and rotated."""
    layers = [int(key.partition(".")[0]) for key in spectra[THE_MODELS]]

    def needed(population: str, share: float = 0.9) -> Float[np.ndarray, "matrices"]:
        return np.log([subspace.components_for(curve, share) for curve in spectra[population].values()])

    found: dict[str, Any] = {
        "components_for_variance": {f"{100 * s:.0f}": figure(needed(THE_MODELS, s), layers) for s in SHARES},
        "null": {name: figure(needed(name), layers)["value"] for name in spectra if name != THE_MODELS},
        "null_90": figure(needed(ROTATED), layers),
    }
    if UNTRAINED in spectra:
        for name, population in (("untrained_over_trained", THE_MODELS), ("untrained_over_rotated", ROTATED)):
            found[name] = figure(needed(UNTRAINED) - needed(population), layers)
    return found


def by_claim(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures that claims are about and their null models', of all groups: each with its ends."""
    figures: dict[str, dict[str, Any]] = {}
    for group, found in groups.items():
        named = {name: part for name, part in found.items() if "_over_" in name or name == "null_90"}
        for name, part in (named | {"components_90": found["components_for_variance"]["90"]}).items():
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                figures.setdefault(f"{name}{end}", {})[group] = part[key]
    return figures

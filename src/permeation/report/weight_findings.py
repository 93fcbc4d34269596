"""What the stages of the weight axis found, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from permeation.report.labels import label
from permeation.report.sections import Metrics, Section, counted, interval, number, share

RATIOS = ("ratio", "first layer kept")  # the columns of `_ratios`
KEPT = 1.05  # the ratio up to which a model counts as kept: 5 % more perplexity
SMALL = 32  # components, as published


def shared_subspace(pca: Metrics) -> Section:
    """How many components the heads' W_QK take."""
    forms = {"gram": pca} | {name: part for name, part in pca.items() if _is_spectrum(part)}
    tables: dict[str, Any] = {label(name): form["components_for_variance"] for name, form in forms.items()}
    tables |= {f"{label(name)}, at random": table for name, table in pca.get("null", {}).items()}
    shares, heads = pca["components_for_variance"], pca["n_heads"]
    needed, random = shares["90"], pca.get("null", {}).get("gram", {}).get("90")
    return Section(
        "Do the heads share a small subspace?",
        [
            f"{'Yes' if needed <= SMALL < heads else 'No'}: 90 % of the variance of W_QK over {heads} heads take "
            f"{needed} components in gram form, {share(needed / heads)} of the number of heads; heads of the same "
            f"sizes in random directions take {number(random)}.",
            f"The first component explains {share(pca['explained_variance_ratio']['1'])}.",
        ],
        ("components for", *(f"{name} %" for name in shares)),
        [(name, *(str(table[s]) for s in shares)) for name, table in tables.items()],
        ("spectrum", "heads"),
    )


def rebuilt_heads(perplexity: Metrics) -> Section:
    """What rebuilding W_QK from K components costs."""
    baseline = perplexity["baseline"]
    return Section(
        "Does a model keep its perplexity with heads rebuilt from a few components?",
        [
            _cheapest(perplexity, "K"),
            f"The untouched model has a perplexity of {number(baseline['perplexity'])} on {baseline['tokens']:,} "
            f"tokens in {baseline['windows']} windows. A ratio is over that; its interval is of the paired windows.",
        ],
        ("K", *RATIOS),
        _ratios(perplexity),
        ("perplexity",),
    )


def where_it_lives(perplexity: Metrics) -> Section:
    """Which layers and which components the function is in."""
    layers, bands = perplexity["layer_ratio"], perplexity["band_ratio"]
    kept = perplexity["first_layer_kept"]["band_ratio"]
    first, last = next(iter(bands)), next(reversed(bands))
    worst, mildest = (choose(layers, key=layers.__getitem__) for choose in (max, min))
    return Section(
        "Is the function in the components of large variance?",
        [
            f"{'Yes' if bands[first] > bands[last] else 'No'}: to drop the components of most variance, {first}, "
            f"multiplies the perplexity by {number(bands[first])}, to drop those of least, {last}, by "
            f"{number(bands[last])}; where the first layer keeps its own, by {number(kept[first])} and "
            f"{number(kept[last])}.",
            f"Of {counted(len(layers), 'layer')} rebuilt one at a time from {perplexity['layer_components']} "
            f"components, layer {worst} costs most (ratio {number(layers[worst])}) and layer {mildest} least "
            f"({number(layers[mildest])}).",
        ],
        ("components dropped", "perplexity ratio", "first layer kept"),
        [(band, number(ratio), number(kept[band])) for band, ratio in bands.items()],
        ("layers", "bands"),
    )


def shared_heads(clusters: Metrics) -> Section:
    """What sharing one W_QK among the heads of a cluster costs."""
    replaced = clusters["replaced_heads"]
    return Section(
        "Can heads share one W_QK?",
        [_cheapest(clusters, "k")],
        ("k", *RATIOS, "heads replaced"),
        [(*row, str(replaced.get(row[0], "–"))) for row in _ratios(clusters)],
        ("clusters",),
    )


def bits_needed(rivals: Metrics) -> Section:
    """How few bits W_Q and W_K can be stored in, and by which method."""
    bits, best = rivals["bits_at_1_05"], rivals["best"]
    bounds = [rivals[f"bits_at_1_05_{end}"] for end in ("low", "high")]
    methods = counted(len(bits), "method")
    fewest = interval(*(rivals.get(f"best_bits{end}") for end in ("", "_low", "_high")))
    return Section(
        "Can attention be stored in few bits?",
        [
            f"Yes: of {methods} {best} takes the fewest bits at 5 % more perplexity, {fewest} for each number of W_Q "
            "and W_K in place of 16."
            if best
            else f"Open: no size of {methods} is within 5 % of the perplexity beside one that is not.",
            f"W_Q and W_K are {share(rivals['share_of_model'])} of the model's numbers; the others stay as they are.",
        ],
        ("method", "bits at 5 % more, 95 % interval"),
        [(method, interval(bits[method], *(each[method] for each in bounds))) for method in bits],
        ("pareto",),
    )


def _is_spectrum(part: Any) -> bool:
    return isinstance(part, Mapping) and "components_for_variance" in part


def _ratios(table: Metrics) -> list[tuple[str, ...]]:
    """A row per K: the ratio with its interval, of all layers and of all but the first."""
    ends = ("ratio", "ratio_low", "ratio_high")
    parts = (table, table["first_layer_kept"])
    return [(key, *(interval(*(part[end][key] for end in ends)) for part in parts)) for key in table["ratio"]]


def _cheapest(table: Metrics, name: str) -> str:
    """The first entry of the list that keeps the model, or how far the best one is from it."""
    partial = {key: ratio for key, ratio in table["ratio"].items() if key != "all" and ratio is not None}
    if not partial:
        return f"Open: no {name} short of all was measured."
    kept = next((key for key, ratio in partial.items() if ratio <= KEPT), None)
    if kept is not None:
        return f"Yes: {name} = {kept} is the first of {len(partial)} to stay within 5 % of the perplexity."
    best = min(partial, key=partial.__getitem__)
    return (
        f"No: of {len(partial)} choices ({name} = {', '.join(partial)}) none stays within 5 % of the perplexity; the "
        f"best, {name} = {best}, multiplies it by {number(partial[best])}."
    )


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("pca",), shared_subspace),
    (("perplexity",), rebuilt_heads),
    (("perplexity",), where_it_lives),
    (("clusters",), shared_heads),
    (("rivals",), bits_needed),
)

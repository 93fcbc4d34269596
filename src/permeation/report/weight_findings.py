"""What the stages of the weight axis found, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from permeation.report.labels import label
from permeation.report.sections import Metrics, Section, counted, plain, share

RATIOS = ("ratio, 95 % interval", "first layer kept, 95 % interval")  # the columns of `_ratios`
KEPT = 1.05  # the ratio up to which a model counts as kept: 5 % more perplexity


def shared_subspace(pca: Metrics) -> Section:
    """How many components the heads' W_QK take."""
    forms = {"gram": pca} | {name: part for name, part in pca.items() if _is_spectrum(part)}
    tables: dict[str, Any] = {label(name): form["components_for_variance"] for name, form in forms.items()}
    # The same heads in random directions, where that was measured.
    tables |= {f"{label(name)}, at random": table for name, table in pca.get("null", {}).items()}
    shares = list(pca["components_for_variance"])
    at = "90" if "90" in shares else shares[-1]
    needed = pca["components_for_variance"][at]
    return Section(
        "Do the heads share a small subspace?",
        [
            f"{at} % of the variance of W_QK over the {pca['n_heads']} heads take {needed} components in gram form, "
            f"{share(needed / pca['n_heads'])} of the number of heads.",
            f"The first component alone explains {share(pca['explained_variance_ratio']['1'])}.",
        ],
        ("components for", *(f"{name} %" for name in shares)),
        [(name, *(str(table[s]) for s in shares)) for name, table in tables.items()],
        ("spectrum", "heads"),
    )


def rebuilt_heads(perplexity: Metrics) -> Section:
    """What rebuilding W_QK from K components costs."""
    baseline = perplexity["baseline"]
    return Section(
        "What does a model with rebuilt heads lose?",
        [
            _cheapest(perplexity, "K", "with W_QK rebuilt from K components"),
            f"The untouched model has a perplexity of {baseline['perplexity']:.2f} on {baseline['tokens']:,} tokens in "
            f"{baseline['windows']} windows; a ratio is over that, with a 95 % interval from the paired windows.",
        ],
        ("K", *RATIOS),
        _ratios(perplexity),
        ("perplexity",),
    )


def shared_heads(clusters: Metrics) -> Section:
    """What sharing one W_QK among the heads of a cluster costs."""
    replaced = clusters["replaced_heads"]
    return Section(
        "Can heads share one W_QK?",
        [_cheapest(clusters, "k", "with one W_QK for each of k clusters of heads")],
        ("k", *RATIOS, "heads replaced"),
        [(*row, str(replaced.get(row[0], "–"))) for row in _ratios(clusters)],
        ("clusters",),
    )


def bits_needed(rivals: Metrics) -> Section:
    """How few bits W_Q and W_K can be stored in, and by which method."""
    bits, best = rivals["bits_at_1_05"], rivals["best"]
    low, high, foretold = (rivals[f"bits_at_1_05_{column}"] for column in ("low", "high", "foretold"))
    reached = [method for method, value in bits.items() if value is not None]
    said = (
        f"At 5 % more perplexity {best} stores W_Q and W_K in the fewest bits a number: {rivals['best_bits']:.2f} "
        f"[{rivals['best_bits_low']:.2f}, {rivals['best_bits_high']:.2f}] in place of 16."
        if best is not None
        else f"No run of {counted(len(bits), 'method')} stays within 5 % of the perplexity beside one that does not."
    )
    return Section(
        "How few bits does attention need?",
        [
            said,
            f"W_Q and W_K are {share(rivals['share_of_model'])} of the model's numbers; the others stay as they are.",
            *_law(rivals),
        ],
        ("method", "bits, 95 % interval", "foretold"),
        [
            (
                method,
                f"{bits[method]:.2f} [{low[method]:.2f}, {high[method]:.2f}]" if method in reached else "not bracketed",
                "–" if foretold[method] is None else f"{foretold[method]:.2f}",
            )
            for method in bits
        ],
        ("pareto",),
    )


def _law(rivals: Metrics) -> list[str]:
    law = rivals["law"]
    if law["c"] is None:
        return []
    factor = law["held_out_factor"]
    held_out = "" if factor is None else f", right within a factor of {factor:.1f} in runs that it was not fitted to"
    left_out = rivals["left_out"]
    rest = f" {counted(left_out, 'run')} that it rules out {'was' if left_out == 1 else 'were'} not measured."
    return [f"The log ratio is {law['c']:.1f} times the squared score error{held_out}.{rest if left_out else ''}"]


def where_it_lives(locate: Metrics) -> Section:
    """Which layers and which components the function is in."""
    layers, bands, kept = locate["layer_ratio"], locate["band_ratio"], locate["first_layer_kept"]["band_ratio"]
    worst, mildest = (choose(layers, key=lambda layer: layers[layer]) for choose in (max, min))
    first, last = next(iter(bands)), next(reversed(bands))
    return Section(
        "Where does the function live?",
        [
            f"With W_QK of one layer alone rebuilt from {locate['components']} components, layer {worst} costs most "
            f"(ratio {plain(layers[worst])}) and layer {mildest} least ({plain(layers[mildest])})."
            if worst != mildest
            else f"With W_QK of layer {worst} rebuilt from {locate['components']} components the ratio is "
            f"{plain(layers[worst])}.",
            f"To drop the components of least variance, {last}, gives a ratio of {plain(bands[last])}, to drop those "
            f"of most, {first}, {plain(bands[first])}; where the first layer keeps its own, {plain(kept[last])} "
            f"against {plain(kept[first])}.",
        ],
        ("components dropped", "perplexity ratio", "first layer kept"),
        [(band, plain(ratio), plain(kept[band])) for band, ratio in bands.items()],
        ("layers", "bands"),
    )


def _is_spectrum(part: Any) -> bool:
    return isinstance(part, Mapping) and "components_for_variance" in part


def _ratios(table: Metrics) -> list[tuple[str, ...]]:
    """A row per K: the ratio with its interval, of all layers and of all but the first."""
    parts = (table, table["first_layer_kept"])
    return [(key, *(_interval(part, key) for part in parts)) for key in table["ratio"]]


def _interval(table: Metrics, key: str) -> str:
    if table["ratio"][key] is None:
        return "not measured"
    ratio, low, high = (plain(table[column][key]) for column in ("ratio", "ratio_low", "ratio_high"))
    return f"{ratio} [{low}, {high}]"


def _cheapest(table: Metrics, name: str, how: str) -> str:
    """The first entry of the list that keeps the model, or how far the best one is from it."""
    partial = {key: ratio for key, ratio in table["ratio"].items() if key != "all" and ratio is not None}
    kept = next((key for key, ratio in partial.items() if ratio <= KEPT), None)
    exact = table["ratio"].get("all")
    whole = "" if exact is None else f" With all components it is {plain(exact)}."
    if kept is not None:
        return f"{how[0].upper()}{how[1:]}, {name} = {kept} is the first to stay within 5 % of the perplexity.{whole}"
    best = min(partial, key=lambda key: partial[key], default=None)
    if best is None:
        return f"No {name} short of all was measured.{whole}"
    if len(partial) == 1:
        return f"{how[0].upper()}{how[1:]}, {name} = {best} multiplies the perplexity by {plain(partial[best])}.{whole}"
    tried = f"none of {name} = {', '.join(partial)}"
    return (
        f"{how[0].upper()}{how[1:]}, {tried} stays within 5 % of the perplexity: the "
        f"best, {name} = {best}, multiplies it by {plain(partial[best])}.{whole}"
    )


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("pca",), shared_subspace),
    (("perplexity",), rebuilt_heads),
    (("clusters",), shared_heads),
    (("locate",), where_it_lives),
    (("rivals",), bits_needed),
)

"""What the stages of the weight axis found, in words."""

from __future__ import annotations

from collections.abc import Mapping

from permeation.report.labels import label
from permeation.report.sections import Metrics, Question, Table, interval

KEPT = 1.05  # the ratio up to which a model counts as kept: 5 % more perplexity
SMALL = 32  # components, as published
ENDS = ("", "_low", "_high")


def _spectra(metrics: Metrics) -> Table:
    """Components for each share of the variance; each form beside heads of the same sizes in random directions."""
    pca, rows = metrics["pca"], []
    shares = pca["components_for_variance"]
    forms = {
        name: part for name, part in pca.items() if isinstance(part, Mapping) and "components_for_variance" in part
    }
    for name, part in ({"gram": pca} | forms).items():
        rows.append((label(name), *(str(part["components_for_variance"][share]) for share in shares)))
        if null := pca.get("null", {}).get(name):
            rows.append((f"{label(name)}, at random", *(str(null[share]) for share in shares)))
    return ("components for", *(f"{share} %" for share in shares)), rows


def _ratios(table: Metrics, name: str) -> Table:
    """A row per K: the ratio with its interval, of all layers and of all but the first."""
    parts = (table, table["first_layer_kept"])
    rows = [(key, *(interval(*(part[f"ratio{end}"][key] for end in ENDS)) for part in parts)) for key in table["ratio"]]
    return (name, "perplexity ratio", "first layer kept"), rows


def _best(table: Metrics) -> Metrics:
    """The entry short of all that costs least, and how many were measured."""
    ratios = {key: ratio for key, ratio in table["ratio"].items() if key != "all" and ratio is not None}
    best = min(ratios, key=ratios.__getitem__, default=None)
    return {"tried": len(ratios), "best": best, "ratio": ratios.get(best)}


def _ends(metrics: Metrics) -> Metrics:
    """The bands of most and of least variance, and what dropping each costs."""
    perplexity = metrics["perplexity"]
    bands, kept = perplexity["band_ratio"], perplexity["first_layer_kept"]["band_ratio"]
    first, *_, last = bands
    found = {"first": first, "last": last, "layers": len(perplexity["layer_ratio"])}
    return found | {"most": bands[first], "least": bands[last], "most_kept": kept[first], "least_kept": kept[last]}


def _bits(metrics: Metrics) -> Table:
    bounds = [metrics["rivals"][f"bits_at_1_05{end}"] for end in ENDS]
    return ("method", "bits at 5 % more"), [(name, interval(*(each[name] for each in bounds))) for name in bounds[0]]


QUESTIONS = (
    Question(
        "Do the heads share a small subspace?",
        ("pca",),
        lambda metrics: metrics["pca"]["components_for_variance"]["90"] <= SMALL < metrics["pca"]["n_heads"],
        (
            "90 % of the variance of W_QK over {pca.n_heads} heads take {pca.components_for_variance.90} components in "
            "gram form; heads of the same sizes in random directions take {pca.null.gram.90}.",
            "The first component explains {pca.explained_variance_ratio.1:%}.",
        ),
        table=_spectra,
        figures=("spectrum", "heads"),
    ),
    Question(
        "Does a model keep its perplexity with heads rebuilt from a few components?",
        ("perplexity",),
        lambda metrics: _best(metrics["perplexity"])["ratio"] <= KEPT,
        (
            "of {here.tried} choices of K short of all the best, K = {here.best}, multiplies the perplexity by "
            "{here.ratio}; 5 % more is the limit.",
            "The untouched model has a perplexity of {perplexity.baseline.perplexity} on {perplexity.baseline.tokens} "
            "tokens in {perplexity.baseline.windows} windows. A ratio is over that; its interval is of the paired "
            "windows.",
        ),
        facts=lambda metrics: _best(metrics["perplexity"]),
        table=lambda metrics: _ratios(metrics["perplexity"], "K"),
        figures=("perplexity",),
    ),
    Question(
        "Is the function in the components of large variance?",
        ("perplexity",),
        lambda metrics: _ends(metrics)["most"] > _ends(metrics)["least"],
        (
            "to drop the components of most variance, {here.first}, multiplies the perplexity by {here.most}, to drop "
            "those of least, {here.last}, by {here.least}; where the first layer keeps its own, by {here.most_kept} "
            "and {here.least_kept}.",
            "{here.layers} layers were rebuilt one at a time from {perplexity.layer_components} components.",
        ),
        facts=_ends,
        figures=("layers", "bands"),
    ),
    Question(
        "Can heads share one W_QK?",
        ("clusters",),
        lambda metrics: _best(metrics["clusters"])["ratio"] <= KEPT,
        (
            "of {here.tried} numbers of clusters the best, k = {here.best}, multiplies the perplexity by {here.ratio}; "
            "5 % more is the limit.",
        ),
        facts=lambda metrics: _best(metrics["clusters"]),
        table=lambda metrics: _ratios(metrics["clusters"], "k"),
        figures=("clusters",),
    ),
    Question(
        "Can attention be stored in few bits?",
        ("rivals",),
        lambda _: True,
        (
            "{rivals.best} takes the fewest bits at 5 % more perplexity, {rivals.best_bits:i} for each number of W_Q "
            "and W_K in place of 16.",
            "W_Q and W_K are {rivals.share_of_model:%} of the model's numbers; the others stay as they are.",
        ),
        open="no method has a size within 5 % of the perplexity beside one that is not.",
        table=_bits,
        figures=("pareto",),
    ),
)

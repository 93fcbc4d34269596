"""What a run found, in words made from its metrics: the sections that the terminal and the page both show.

A section is a function of the metrics files it names; it is left out where one of them is missing, so that a run of
part of the pipeline has a summary too. New findings are a new function in SECTIONS.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json

WIDTH = 80  # columns of a terminal
RATIOS = ("ratio, 95 % interval", "first layer kept, 95 % interval")  # the columns of `_ratios`
TOLERANCE = 1.05  # the ratio up to which a model counts as kept: 5 % more perplexity

SHUFFLED, MEAN = "senses_shuffled", "word_correlation_mean"  # a null model and a statistic, as the metrics name them

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """One part of the findings.

    Attributes:
        title: its heading.
        findings: sentences, the most telling one first.
        header, rows: a table as text, its first column the row's name.
        figures: the tables under plots/ whose figures belong here.
    """

    title: str
    findings: Sequence[str]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figures: Sequence[str] = ()


def read_metrics(root: Path) -> dict[str, Any]:
    """Every file of root/metrics by its name; raises PermeationError where there is none of a run."""
    metrics = {path.stem: read_json(path) for path in sorted((root / "metrics").glob("*.json"))}
    if "run" not in metrics:
        raise PermeationError(f"{root / 'metrics' / 'run.json'} is missing; the pipeline has to run first (dvc repro)")
    return metrics


def meaning_of_words(sigma: Metrics, g: Metrics) -> Section:
    """How far the contexts of each word come apart."""
    words = sigma["words"]
    gaps = {word: values["separation"] for word, values in words.items()}
    smallest, largest = min(gaps, key=lambda word: gaps[word]), max(gaps, key=lambda word: gaps[word])
    return Section(
        "Do contexts pull a word towards its senses?",
        [
            f"At the last layer σ puts all five contexts in the order of their strength for {sigma['ordered_words']} "
            f"of {sigma['n_words']} words.",
            f"Between the strongest contexts of the two senses σ differs by {gaps[smallest]:.2f} ({smallest}) to "
            f"{gaps[largest]:.2f} ({largest}).",
            "Along directions made from other prompts the senses are told apart with an AUC of "
            f"{g['auc_gradient_own']:.2f} on average over words and layers (95 % interval "
            f"{g['auc_gradient_own_low']:.2f} to {g['auc_gradient_own_high']:.2f}; chance is 0.5, "
            f"p = {g['auc_gradient_own_p']:.3f}).",
        ],
        ("word", "σ(strong A) − σ(strong B)", "f_max"),
        [(word, f"{gap:.3f}", f"{g['f_max'][word]:.3f}") for word, gap in gaps.items()],
        ("sigma", "meaning", "decoding", "logit_lens"),
    )


def shape_of_response(g: Metrics) -> Section:
    """Whether all words respond with the same g, and whether that is about meaning."""
    real = g[MEAN]
    if real is None:
        agreement = "With a single word there is nothing to compare g with."
    else:
        null = g["null"]["within_senses"][MEAN]
        verdict = "no less: the shared shape says nothing about meaning" if null >= real else "less than that"
        agreement = (
            f"The words' g correlate by {real:.3f} on average ({g['word_correlation_min']:.3f} at least); along "
            f"directions that tell prompts of the same sense apart by {null:.3f} in the median, {verdict}. Shuffled "
            f"sense labels reach the words' own correlation by chance with p = {g['p'][SHUFFLED][MEAN]:.3f}."
        )
    drop = f" and falls by {share(g['final_drop'])} from there to the last layer" if g["peak_depth"] < 1 else ""
    return Section(
        "Is the response over depth the same for all words?",
        [
            agreement,
            f"h · f_max · g, with g the mean of the other words, explains {share(g['decomposition_r2'])} of σ's "
            "variance.",
            f"The response is largest at depth {g['peak_depth']:.2f}{drop}. Without the final layers it grows like "
            f"(l/L)^{g['alpha']:.2f}, and the law that fits best is: {g['best_model']}.",
        ],
        figures=("g", "response", "fits"),
    )


def shared_subspace(pca: Metrics) -> Section:
    """How many components the heads' W_QK take."""
    forms = {"gram": pca} | {name: part for name, part in pca.items() if _is_spectrum(part)}
    tables = {_form(name): form["components_for_variance"] for name, form in forms.items()}
    # The same heads in random directions, where that was measured.
    tables |= {f"{_form(name)}, at random": table for name, table in pca.get("null", {}).items()}
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
        [(*row, str(replaced[row[0]])) for row in _ratios(clusters)],
        ("clusters",),
    )


def rivals_at_equal_storage(rivals: Metrics) -> Section:
    """Which way of storing W_Q and W_K is the cheapest that keeps the model."""
    shares = rivals["smallest_share_at_1_05"]
    kept = {method: stored for method, stored in shares.items() if stored is not None}
    best = min(kept, key=lambda method: kept[method], default=None)
    return Section(
        "Which decomposition stores the most model per number?",
        [
            f"Within 5 % of the perplexity, {best} stores W_Q and W_K in the smallest share of their bytes: "
            f"{share(kept[best])}. {len(shares) - len(kept)} of {len(shares)} methods do so at no size measured."
            if best is not None
            else f"None of {len(shares)} methods stays within 5 % of the perplexity at any size measured.",
            f"Measured on {rivals['tokens']:,} tokens.",
        ],
        ("method", "smallest share within 5 %"),
        [(method, "none" if stored is None else share(stored)) for method, stored in shares.items()],
        ("pareto",),
    )


def where_it_lives(locate: Metrics) -> Section:
    """Which layers and which components the function is in."""
    layers, bands, kept = locate["layer_ratio"], locate["band_ratio"], locate["first_layer_kept"]["band_ratio"]
    worst, mildest = (choose(layers, key=lambda layer: layers[layer]) for choose in (max, min))
    first, last = next(iter(bands)), next(reversed(bands))
    return Section(
        "Where does the function live?",
        [
            f"With W_QK of one layer alone rebuilt from {locate['components']} components, layer {worst} costs most "
            f"(ratio {_plain(layers[worst])}) and layer {mildest} least ({_plain(layers[mildest])}).",
            f"To drop the components of least variance, {last}, gives a ratio of {_plain(bands[last])}, to drop those "
            f"of most, {first}, {_plain(bands[first])}; where the first layer keeps its own, {_plain(kept[last])} "
            f"against {_plain(kept[first])}.",
            f"Measured on {locate['tokens']:,} tokens.",
        ],
        ("components dropped", "perplexity ratio", "first layer kept"),
        [(band, _plain(ratio), _plain(kept[band])) for band, ratio in bands.items()],
        ("layers", "bands"),
    )


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("sigma", "g"), meaning_of_words),
    (("g",), shape_of_response),
    (("pca",), shared_subspace),
    (("perplexity",), rebuilt_heads),
    (("clusters",), shared_heads),
    (("locate",), where_it_lives),
    (("rivals",), rivals_at_equal_storage),
)


def sections(metrics: Metrics) -> list[Section]:
    """The sections whose metrics are there."""
    return [write(*(metrics[name] for name in needs)) for needs, write in SECTIONS if set(needs) <= set(metrics)]


def sizes(run: Metrics) -> str:
    """The model's sizes in one line."""
    return (
        f"{run['n_layers']} layers of {run['n_heads']} heads, d_model "
        f"{run['d_model']}, {run['n_parameters'] / 1e6:,.0f} million parameters"
    )


def summarise(metrics: Metrics) -> str:
    """All sections as text of at most 80 columns."""
    run = metrics["run"]
    parts = ["", textwrap.fill(f"{run['model']} on {run['corpus']}: {sizes(run)}", WIDTH)]
    for section in sections(metrics):
        parts += ["", section.title.upper()]
        parts += [textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="  ") for line in section.findings]
        parts += ["", *_aligned(section.header, section.rows)] if section.rows else []
    more = "Look at: report.html, plots/*.png, dvc plots show. Vary it: dvc exp run -S model=gpt2-medium"
    return "\n".join([*parts, "", textwrap.fill(more, WIDTH), ""])


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.0f} %"


def _form(name: str) -> str:
    return {"score_centred": "score form, mean key out"}.get(name, f"{name} form")


def _is_spectrum(part: Any) -> bool:
    return isinstance(part, Mapping) and "components_for_variance" in part


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The table as lines: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  "
        + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in (header, *rows)
    ]


def _ratios(table: Metrics) -> list[tuple[str, ...]]:
    """A row per K: the ratio with its interval, of all layers and of all but the first."""
    parts = (table, table["first_layer_kept"])
    return [(key, *(_interval(part, key) for part in parts)) for key in table["ratio"]]


def _interval(table: Metrics, key: str) -> str:
    ratio, low, high = (_plain(table[column][key]) for column in ("ratio", "ratio_low", "ratio_high"))
    return f"{ratio} [{low}, {high}]"


def _cheapest(table: Metrics, name: str, how: str) -> str:
    """The first entry of the list that keeps the model, or how far the best one is from it."""
    partial = {key: ratio for key, ratio in table["ratio"].items() if key != "all"}
    kept = next((key for key, ratio in partial.items() if ratio <= TOLERANCE), None)
    exact = table["ratio"].get("all")
    whole = "" if exact is None else f" With all components it is {_plain(exact)}."
    if kept is not None:
        return f"{how[0].upper()}{how[1:]}, {name} = {kept} is the first to stay within 5 % of the perplexity.{whole}"
    best = min(partial, key=lambda key: partial[key], default=None)
    if best is None:
        return f"No {name} short of all was measured.{whole}"
    return (
        f"{how[0].upper()}{how[1:]}, none of {name} = {', '.join(partial)} stays within 5 % of the perplexity: the "
        f"best, {name} = {best}, multiplies it by {_plain(partial[best])}.{whole}"
    )


def _plain(ratio: float) -> str:
    return f"{ratio:.4f}" if ratio < 10 else f"{ratio:,.0f}"

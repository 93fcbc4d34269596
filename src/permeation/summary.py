"""What a run found, as a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from permeation.files import read_json

METRICS = ("run", "sigma", "g", "pca", "perplexity", "clusters")


def read_metrics(root: Path) -> dict[str, Any]:
    """The metrics files under `root`; raises PermeationError where one is missing."""
    return {name: read_json(root / "metrics" / f"{name}.json") for name in METRICS}


def summarise(metrics: Mapping[str, Any]) -> str:
    """The headline figures of both axes."""
    run, sigma, g, pca, perplexity, clusters = (metrics[name] for name in METRICS)
    variance = pca["components_for_variance"]
    circuit = pca["circuit"]["components_for_variance"]
    lines = [
        "",
        f"{run['model']} on {run['corpus']}: {run['n_layers']} layers, "
        f"{pca['n_heads']} heads of {pca['d_head']} dimensions",
        "",
        "Meaning axis",
        f"  σ orders all five conditions for {sigma['ordered_words']} of {sigma['n_words']} words",
        f"  g, correlation between words: {_number(g['word_correlation_mean'])} on average, "
        f"{_number(g['word_correlation_min'])} at least; with shuffled senses {_number(g['null_correlation_mean'])}",
        f"  h · f_max · g explains {_number(g['decomposition_r2'])} of σ's variance; g ~ (l/L)^{g['alpha']:.2f} "
        f"without the final layers, best law: {g['best_model']}",
        "",
        f"Weight axis: components of W_QK for {' / '.join(variance)} % of the variance",
        f"  gram form     {' / '.join(map(str, variance.values()))} of {pca['n_heads']}",
        f"  circuit form  {' / '.join(map(str, circuit.values()))}",
        "",
        f"Perplexity over the untouched model's ({perplexity['baseline']['perplexity']:.2f} on "
        f"{perplexity['baseline']['tokens']:,} tokens), with 95 % intervals",
        *_ratios("K", perplexity),
        *_ratios("k", clusters),
        "",
        "Look at plots/*.png, or: dvc metrics show, dvc plots show, dvc exp run -S model=gpt2-medium",
        "",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _ratios(name: str, table: Mapping[str, Mapping[str, float]]) -> list[str]:
    low, high = table["ratio_low"], table["ratio_high"]
    return [
        f"  {name} = {key:>4}  {_plain(ratio):>8}  [{_plain(low[key])}, {_plain(high[key])}]"
        for key, ratio in table["ratio"].items()
    ]


def _plain(ratio: float) -> str:
    return f"{ratio:.4f}" if ratio < 10 else f"{ratio:,.0f}"

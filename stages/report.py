"""Gather what the stages found: metrics/*.json, the rows that `dvc plots` draws, and the figures."""

import numpy as np
from safetensors.numpy import load_file

from permeation import plots
from permeation.files import read_json, replacing, write_json, write_rows
from permeation.stage import Stage, run
from permeation.words import CONDITIONS, read_prompts, select

METRICS = {"sigma": "compute_sigma", "g": "fit_g", "pca": "pca", "perplexity": "reconstruct", "clusters": "cluster"}


def main(stage: Stage) -> None:
    """Write metrics/ and plots/ under the output folder."""
    summaries = {name: read_json(stage.input(source) / "summary.json") for name, source in METRICS.items()}
    model, corpus = read_json(stage.input("model") / "model.json"), read_json(stage.input("corpus") / "corpus.json")
    summaries["run"] = {"model": model["name"], "corpus": corpus["name"]} | {
        key: model[key] for key in ("n_layers", "n_heads", "d_model", "d_head", "n_parameters")
    }
    summaries["perplexity"] = {
        "baseline": read_json(stage.input("baseline") / "summary.json"),
        **summaries["perplexity"],
    }
    with replacing(stage.root / "metrics") as folder:
        for name, summary in summaries.items():
            write_json(folder / f"{name}.json", summary)

    tables = {
        "sigma": sigma_rows(stage),
        "g": g_rows(stage),
        "spectrum": spectrum_rows(stage),
        "perplexity": perplexity_rows(stage),
        "clusters": cluster_rows(stage),
        "heads": head_rows(stage),
    }
    plots.style()
    figures = {
        "sigma": plots.sigma_fans(tables["sigma"]),
        "g": plots.g_curves(tables["g"]),
        "spectrum": plots.spectra(tables["spectrum"]),
        "perplexity": plots.ratio_curve(tables["perplexity"], "components", "principal components K"),
        "clusters": plots.ratio_curve(tables["clusters"], "k", "clusters k"),
        "heads": plots.head_map(tables["heads"]),
    }
    with replacing(stage.root / "plots") as folder:
        for name, rows in tables.items():
            write_rows(folder / f"{name}.json", rows)
        for name, figure in figures.items():
            plots.save(figure, folder / f"{name}.png")


def sigma_rows(stage: Stage) -> list[dict[str, object]]:
    """σ per word, condition and layer, averaged over the condition's prompts."""
    prompts = read_prompts(stage.input("extract_activations") / "prompts.json")
    folder = stage.input("compute_sigma")
    sigma, centred = np.load(folder / "sigma.npy"), np.load(folder / "centred_sigma.npy")
    rows = []
    for word in dict.fromkeys(p.word for p in prompts):
        for condition in CONDITIONS:
            chosen = select(prompts, word, "condition", condition)
            means = zip(sigma[chosen].mean(axis=0), centred[chosen].mean(axis=0), strict=True)
            rows += [
                {
                    "word": word,
                    "condition": condition,
                    "depth": layer / (sigma.shape[1] - 1),
                    "sigma": s,
                    "centred_sigma": c,
                }
                for layer, (s, c) in enumerate(means)
            ]
    return rows


def g_rows(stage: Stage) -> list[dict[str, object]]:
    """g per word and layer; the mean over words; that mean with shuffled senses and its middle 95 %."""
    folder = stage.input("fit_g")
    g, null = np.load(folder / "g.npy"), np.load(folder / "null_g.npy").mean(axis=1)
    depth = np.linspace(0, 1, g.shape[1])
    words = list(read_json(folder / "summary.json")["f_max"])
    rows = [
        {"kind": "word", "word": word, "depth": x, "g": y, "low": None, "high": None}
        for word, curve in zip(words, g, strict=True)
        for x, y in zip(depth, curve, strict=True)
    ]
    rows += [
        {"kind": "mean", "word": "mean", "depth": x, "g": y, "low": None, "high": None}
        for x, y in zip(depth, g.mean(axis=0), strict=True)
    ]
    low, middle, high = np.quantile(null, [0.025, 0.5, 0.975], axis=0)
    rows += [
        {"kind": "null", "word": "senses shuffled", "depth": x, "g": m, "low": lo, "high": hi}
        for x, m, lo, hi in zip(depth, middle, low, high, strict=True)
    ]
    return rows


def spectrum_rows(stage: Stage) -> list[dict[str, object]]:
    """Cumulative share of the variance per number of components, in either form."""
    rows: list[dict[str, object]] = []
    for form in ("gram", "circuit"):
        eigenvalues = load_file(stage.input("pca") / f"{form}.safetensors")["eigenvalues"]
        cumulative = np.cumsum(eigenvalues) / eigenvalues.sum()
        rows += [{"form": form, "components": i + 1, "cumulative": float(c)} for i, c in enumerate(cumulative)]
    return rows


def perplexity_rows(stage: Stage) -> list[dict[str, object]]:
    """Ratio and interval per K, with `all` at the number of heads."""
    n = read_json(stage.input("pca") / "summary.json")["n_heads"]
    rows = read_json(stage.input("reconstruct") / "rows.json")
    return [{**row, "components": n if row["components"] == "all" else int(row["components"])} for row in rows]


def cluster_rows(stage: Stage) -> list[dict[str, object]]:
    """Ratio and interval per k."""
    return [{**row, "k": int(row["k"])} for row in read_json(stage.input("cluster") / "rows.json")]


def head_rows(stage: Stage) -> list[dict[str, object]]:
    """Each head's layer, first two coefficients in gram form, and group at the largest k."""
    coefficients = load_file(stage.input("pca") / "gram.safetensors")["coefficients"]
    per_layer = read_json(stage.input("model") / "model.json")["n_heads"]
    labels = list(read_json(stage.input("cluster") / "labels.json").values())[-1]
    return [
        {
            "layer": i // per_layer,
            "head": i % per_layer,
            "component_1": float(first),
            "component_2": float(second),
            "cluster": labels[i],
        }
        for i, (first, second) in enumerate(coefficients[:, :2])
    ]


if __name__ == "__main__":
    run(main)

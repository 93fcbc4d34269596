"""Gather what the stages found: metrics/*.json, the tables that `dvc plots` draws, and the figures."""

import shutil

from permeation.figures import meaning, style, weights
from permeation.files import read_json, replacing, write_json
from permeation.stage import Stage, run

# metrics/<name>.json comes from that stage's summary.json.
METRICS = {
    "sigma": "compute_sigma",
    "g": "fit_g",
    "pca": "pca",
    "perplexity": "reconstruct",
    "clusters": "cluster",
    "rivals": "rivals",
    "locate": "locate",
}
FIGURES = meaning.FIGURES | weights.FIGURES


def main(stage: Stage) -> None:
    """Write metrics/ and plots/ under the output folder."""
    sources = {name: stage.input(source) for name, source in METRICS.items()}
    summaries = {name: read_json(folder / "summary.json") for name, folder in sources.items()}
    model, corpus = read_json(stage.input("model") / "model.json"), read_json(stage.input("corpus") / "corpus.json")
    summaries["run"] = {"model": model["name"], "corpus": corpus["name"]} | {
        key: model[key] for key in ("n_layers", "n_heads", "d_model", "d_head", "n_parameters")
    }
    summaries["perplexity"]["baseline"] = read_json(stage.input("baseline") / "summary.json")
    with replacing(stage.root / "metrics") as folder:
        for name, summary in summaries.items():
            write_json(folder / f"{name}.json", summary)

    style.use_style()
    with replacing(stage.root / "plots") as folder:
        for table in (path for source in sources.values() for path in sorted((source / "plots").glob("*.json"))):
            shutil.copy(table, folder)
            style.save(FIGURES[table.stem](read_json(table)), folder / f"{table.stem}.png")


if __name__ == "__main__":
    run(main)

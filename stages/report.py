"""Gather what the stages found: metrics/*.json, the tables that `dvc plots` draws, the figures, and report.html."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from permeation.frame.sealed import replacing
from permeation.frame.tables import read_json, write_json
from permeation.report.claims import check_claims, read_claims
from permeation.report.figures import style
from permeation.report.page import FIGURES, versions, write_page
from stages import Stage, run

# metrics/<name>.json comes from those stages' summary.json, side by side.
METRICS = {
    "sigma": ("compute_sigma",),
    "g": ("fit_g", "nulls", "controls"),
    "decode": ("decode",),
    "logit_lens": ("logit_lens",),
    "intervene": ("intervene",),
    "pca": ("pca",),
    "perplexity": ("reconstruct",),
    "clusters": ("cluster",),
    "rivals": ("rivals",),
    "locate": ("locate",),
}


def main(stage: Stage) -> None:
    """Write metrics/, plots/ and report.html under the output folder."""
    sources = {source: stage.input(source) for names in METRICS.values() for source in names}
    summaries: dict[str, dict[str, Any]] = {
        name: {key: value for each in names for key, value in read_json(sources[each] / "summary.json").items()}
        for name, names in METRICS.items()
    }
    model, corpus = read_json(stage.input("model") / "model.json"), read_json(stage.input("corpus") / "corpus.json")
    summaries["run"] = {"model": model["name"], "corpus": corpus["name"]} | {
        key: model[key] for key in ("n_layers", "n_heads", "d_model", "d_head", "n_parameters")
    }
    summaries["perplexity"]["baseline"] = read_json(stage.input("baseline") / "summary.json")
    summaries["claims"] = check_claims(summaries, read_claims(stage.project / "data" / "published.yaml"))
    summaries["provenance"] = {
        "model": model,
        "corpus": corpus,
        "parameters": parameters(stage.config),
        "versions": versions(),
    }
    with replacing(stage.root / "metrics") as folder:
        for name, summary in summaries.items():
            write_json(folder / f"{name}.json", summary)

    style.use_style()
    with replacing(stage.root / "plots") as folder:
        for table in (path for source in sources.values() for path in sorted((source / "plots").glob("*.json"))):
            shutil.copy(table, folder)
            style.save(FIGURES[table.stem](read_json(table)), folder / f"{table.stem}.png")
    write_page(stage.root)


def parameters(config: Any) -> dict[str, Any]:
    """The parameters as they are recorded: without `device`, which changes no result, and without paths from the root.

    Where a model or a file lies on this machine is nobody's business; its name is enough.
    """
    recorded = asdict(config)
    del recorded["device"]
    for key in ("model", "corpus", "words"):
        if (path := Path(recorded[key]).expanduser()).is_absolute():
            recorded[key] = path.name
    return recorded


if __name__ == "__main__":
    run(main)

"""Put both axes together: metrics/run.json, metrics/provenance.json, and report.html, the page of the run."""

from permeation.frame.errors import PermeationError
from permeation.frame.tables import as_json
from permeation.report.gather import write_metrics
from permeation.report.page import write_page
from permeation.report.results import Place, Results
from stages import Stage, run

SIZES = ("n_layers", "n_heads", "d_model", "d_head", "n_parameters")


def main(stage: Stage) -> None:
    """Write metrics/run.json, metrics/provenance.json and report.html under the output folder."""
    place = Place("metrics", stage.root)
    results = Results.read(place, stage.asked)
    if results.refused or results.corpus is None:
        raise PermeationError(" ".join(results.refused.values()))
    model, corpus = results.model, results.corpus
    summary = {"model": model["name"], "corpus": corpus["name"]} | {key: model[key] for key in SIZES}
    provenance = {
        "model": model,
        "corpus": corpus,
        "parameters": results.parameters,
        "versions": results.versions,
    }
    write_metrics(stage.root, {"run": as_json(summary), "provenance": as_json(provenance)})
    write_page(results)


if __name__ == "__main__":
    run(main)

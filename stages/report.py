"""Put both axes together: the claims and what was found of them, what was run, and report.html, the page of the run."""

from permeation.frame.errors import PermeationError
from permeation.frame.tables import as_json
from permeation.report.claims import check_claims, read_claims
from permeation.report.gather import write_metrics
from permeation.report.page import write_page
from permeation.report.results import Place, Results
from stages import Stage, run

SIZES = ("n_layers", "n_heads", "d_model", "d_head", "n_parameters")


def main(stage: Stage) -> None:
    """Write metrics/claims.json, metrics/run.json, metrics/provenance.json and report.html under the output folder."""
    place = Place("metrics", stage.root)
    results = Results.read(place, stage.asked, meeting=False)  # dvc.yaml does not wait for what is run on demand
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
    claims = check_claims(results.metrics, read_claims(stage.project / "data" / "published.yaml"))
    files = {"claims": claims, "run": summary, "provenance": provenance}
    write_metrics(stage.root, {name: as_json(content) for name, content in files.items()})
    write_page(Results.read(place, stage.asked))


if __name__ == "__main__":
    run(main)

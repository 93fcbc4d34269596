"""Gather what was found where both axes meet: metrics/*.json, and tables and figures in plots/heads/."""

from permeation.frame.tables import as_json
from permeation.report.axes import HEADS
from permeation.report.claims import check_claims, claims_of, read_claims
from permeation.report.gather import write_axis, write_metrics
from permeation.report.results import Place
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write the part's metrics/*.json, with the claims about it, and plots/heads/ under the output folder."""
    outputs = {name: stage.input(name) for name in (*HEADS.stages, *HEADS.about)}
    write_axis(HEADS, stage.root, outputs, stage.parameters)
    place = Place("metrics", stage.root)
    metrics = {name: place.json(f"metrics/{name}.json") for name in HEADS.files}
    claims = claims_of(read_claims(stage.project / "data" / "published.yaml"), HEADS.files)
    write_metrics(stage.root, {HEADS.claims: as_json(check_claims(metrics, claims))})


if __name__ == "__main__":
    run(main)

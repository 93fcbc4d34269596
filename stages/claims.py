"""Hold the published claims against what both axes found: metrics/claims.json, plots/claims/, report.html."""

from permeation.report.gather import write_claims
from permeation.report.page import write_page
from permeation.report.results import Place, Results, plain
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write metrics/claims.json, plots/claims/claims.png and the page under the output folder."""
    results = Results.read(Place("metrics", stage.root), plain(stage.config))
    write_claims(results, stage.root, stage.project)
    write_page(results, stage.project)

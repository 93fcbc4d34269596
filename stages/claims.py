"""Hold the published claims against what both axes found: metrics/claims.json, plots/claims/, report.html."""

from permeation.frame.tables import whole_folder, write_json
from permeation.report.axes import AXES
from permeation.report.claims import read_claims
from permeation.report.draw import save
from permeation.report.figures import draw_claims
from permeation.report.page import write_page
from permeation.report.results import Place, Results, plain
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write metrics/claims.json, plots/claims/claims.png and the page under the output folder."""
    results = Results.read(Place("metrics", stage.root), plain(stage.config))
    default = {name: results.metrics[name] for axis in AXES.values() if not axis.on_demand for name in axis.files}
    claims = read_claims(stage.project, default, results.run["model"]["name"])
    write_json(stage.root / "metrics" / "claims.json", {name: claim.record() for name, claim in claims.items()})
    with whole_folder(stage.root / "plots" / "claims") as folder:
        if figure := draw_claims(claims.values()):
            save(figure, folder / "claims.png")
    write_page(results, stage.project)

"""Gather what was found of models together: metrics/, plots/models/, report.html."""

from permeation.report.axes import MODELS
from permeation.report.gather import write_axis
from permeation.report.page import write_page
from permeation.report.results import Place, Results, plain
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write the axis' metrics/*.json, plots/models/ and the page under the output folder."""
    parameters = plain(stage.config)
    write_axis(MODELS, stage.root, stage.input, parameters, str(stage.device))
    write_page(Results.read(Place("report", stage.root), parameters), stage.project)


if __name__ == "__main__":
    run(main)

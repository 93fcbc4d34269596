"""Gather what was found where both axes meet: metrics/, plots/heads/, report.html."""

from permeation.report.axes import HEADS
from permeation.report.gather import write_axis
from permeation.report.page import write_page
from permeation.report.results import Place, Results, plain
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write the axis' metrics/*.json, plots/heads/ and the page under the output folder."""
    parameters = plain(stage.config)
    write_axis(HEADS, stage.root, stage.input, parameters, str(stage.device))
    write_page(Results.read(Place("report", stage.root), parameters), stage.project)


if __name__ == "__main__":
    run(main)

"""Report an axis: metrics/, plots/<axis>/, report.html."""

from permeation.report.axes import AXES
from permeation.report.gather import write_axis
from permeation.report.page import write_page
from permeation.report.results import Place, Results, plain
from permeation.stage import Stage

ARGUMENTS = tuple(AXES)


def main(stage: Stage) -> None:
    """Write the axis' metrics/*.json, plots/<axis>/ and the page under the output folder."""
    parameters = plain(stage.config)
    write_axis(AXES[stage.axis], stage.root, stage.project, stage.input, parameters, str(stage.device))
    write_page(Results.read(Place("report", stage.root), parameters), stage.project)

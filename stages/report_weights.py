"""Report the weight axis: metrics/, plots/weights/, report.html."""

from permeation.report.axes import WEIGHTS
from permeation.report.page import write_report
from permeation.report.results import plain
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write the axis' metrics/*.json, plots/weights/ and the page under the output folder."""
    write_report(WEIGHTS, stage.root, stage.project, stage.input, plain(stage.config), str(stage.device))


if __name__ == "__main__":
    run(main)

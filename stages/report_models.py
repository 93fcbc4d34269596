"""Report models together: metrics/, plots/models/, report.html."""

from permeation.report.axes import MODELS
from permeation.report.page import write_report
from permeation.report.results import plain
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write the axis' metrics/*.json, plots/models/ and the page under the output folder."""
    write_report(MODELS, stage.root, stage.project, stage.input, plain(stage.config), str(stage.device))


if __name__ == "__main__":
    run(main)

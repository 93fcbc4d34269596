"""Gather what the stages of the weight axis found: metrics/*.json, and tables and figures in plots/weights/."""

from permeation.report.axes import WEIGHTS
from permeation.report.gather import write_axis
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write the axis' metrics/*.json and plots/weights/ under the output folder."""
    outputs = {name: stage.input(name) for name in (*WEIGHTS.stages, *WEIGHTS.about)}
    write_axis(WEIGHTS, stage.root, outputs, stage.parameters)


if __name__ == "__main__":
    run(main)

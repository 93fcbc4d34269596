"""Gather what the stages of the meaning axis found: metrics/*.json, and tables and figures in plots/meaning/."""

from permeation.report.axes import MEANING
from permeation.report.gather import write_axis
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write the axis' metrics/*.json and plots/meaning/ under the output folder."""
    outputs = {name: stage.input(name) for name in (*MEANING.stages, *MEANING.about)}
    write_axis(MEANING, stage.root, outputs, stage.parameters)


if __name__ == "__main__":
    run(main)

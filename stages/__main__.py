"""Run a stage: `python -m stages NAME`, with an axis behind the name of the report."""

import sys

from permeation.stage import run

run(f"stages.{sys.argv.pop(1)}")

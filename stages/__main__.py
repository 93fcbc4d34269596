"""Run a stage: `python -m stages NAME`, with an axis behind the name of the report."""

import sys
from importlib import import_module

from permeation.stage import run

run(import_module(f"stages.{sys.argv.pop(1)}"))

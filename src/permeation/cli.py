"""The command `permeation`: a summary of the last run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from permeation.errors import PermeationError
from permeation.summary import read_metrics, summarise


def main() -> None:
    """Entry point; exits 1 with one line where something is missing."""
    parser = argparse.ArgumentParser(prog="permeation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("summary", help="what the last run in this folder found")
    parser.parse_args()
    try:
        sys.stdout.write(summarise(read_metrics(Path())))
    except PermeationError as error:
        sys.exit(f"permeation: {error}")

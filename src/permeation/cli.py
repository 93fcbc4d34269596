"""The command `permeation`: a summary of the last run, and revisions compared."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.report.revisions import compare_revisions, curve_rows, records, table


def main() -> None:
    """Entry point; exits 1 with one line where something is missing."""
    parser = argparse.ArgumentParser(prog="permeation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("summary", help="what the last run in this folder found")
    compare = commands.add_parser(
        "compare",
        help="correlation and RMSE of g between revisions",
        description="Correlation and RMSE of g between every two of the revisions, per word and for the mean.",
    )
    compare.add_argument(
        "revisions", metavar="REV", nargs="+", help="git commit, branch or tag, DVC experiment, or workspace"
    )
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    compare.add_argument("--output", metavar="DIR", type=Path, help="also write compare.json and compare.png here")
    arguments = parser.parse_args()
    if arguments.command == "compare" and len(arguments.revisions) < 2:
        compare.error("at least two revisions are needed")
    try:
        sys.stdout.write(_compare(arguments) if arguments.command == "compare" else _summary())
    except PermeationError as error:
        sys.exit(f"permeation: {error}")


def _summary() -> str:
    from permeation.report.findings import read_metrics, summarise

    return summarise(read_metrics(Path()))


def _compare(arguments: argparse.Namespace) -> str:
    from permeation import config
    from permeation.frame.tables import write_json

    seed = config.load(Path("params.yaml")).seed
    comparisons = compare_revisions(Path(), arguments.revisions, seed)
    if arguments.output is not None:
        from permeation.report.figures import meaning, style

        style.use_style()
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_json(arguments.output / "compare.json", records(comparisons))
        style.save(meaning.revisions(curve_rows(comparisons)), arguments.output / "compare.png")
    if arguments.json:
        return json.dumps(records(comparisons), indent=2, ensure_ascii=False) + "\n"
    return table(comparisons)

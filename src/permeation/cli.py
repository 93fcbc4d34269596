"""The command `permeation`: what a run found, its page, revisions compared."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.report.results import Place, Results
from permeation.rivals.registry import METHODS

PROJECT = Path()
REVISION = "git commit, branch or tag, DVC experiment, folder with results, or workspace"


def main() -> None:
    """Entry point; exits 1 with one line where something is missing."""
    parser = argparse.ArgumentParser(prog="permeation", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    one = commands.add_parser("summary", help="what a run found; default: the last one in this folder")
    one.add_argument("revision", metavar="REV", nargs="?", default="workspace", help=REVISION)
    one.add_argument("--markdown", action="store_true", help="as Markdown")
    commands.add_parser("page", help="write report.html, the page of the last run in this folder")
    many = commands.add_parser("compare", help="headline figures of revisions, and their curves in compare.png")
    many.add_argument("revisions", metavar="REV", nargs="+", help=REVISION)
    many.add_argument("--json", action="store_true", help="print JSON instead of a table")
    new = commands.add_parser("apply", help="write the run's model, compressed, as a checkpoint")
    new.add_argument("method", metavar="METHOD", help=f"pca, clusters, or one of {', '.join(METHODS)}")
    size = new.add_mutually_exclusive_group(required=True)
    size.add_argument("--bits", metavar="B", type=float, help="the size nearest to so many bits a number")
    size.add_argument("--size", metavar="K", type=int, help="bits, rank, components or clusters")
    new.add_argument("--output", metavar="DIR", type=Path, required=True, help="a new or an empty folder")
    new.add_argument("--packed", action="store_true", help="also what is stored, as one file")
    arguments = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):  # pragma: no branch (tests catch what is printed)
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no σ shows a question mark for it
    run = {"summary": _summary, "page": _page, "compare": _compare, "apply": _apply}
    try:
        sys.stdout.write(run[arguments.command](arguments))
    except PermeationError as error:
        sys.exit(f"permeation: {error}")


def results_of(name: str) -> Results:
    """What can be shown at the place of that name."""
    place = Place.find(PROJECT, name)
    return Results.read(place, place.parameters())


def _summary(arguments: argparse.Namespace) -> str:
    from permeation.report import findings

    return (findings.markdown if arguments.markdown else findings.summary)(PROJECT, results_of(arguments.revision))


def _page(_: argparse.Namespace) -> str:
    from permeation.report.page import write_page

    return f"{write_page(results_of('workspace'), PROJECT).resolve().as_uri()}\n"


def _compare(arguments: argparse.Namespace) -> str:
    from permeation.report import draw, figures, revisions

    found = [results_of(name) for name in arguments.revisions]
    alike = revisions.compare_all(found, seed=0)
    said = ""
    if figure := figures.draw("compare", revisions.curve_rows(found, alike)):
        draw.save(figure, target := PROJECT / "compare.png")
        said = f"\nCurves: {target.resolve().as_uri()}\n"
    records = {"headlines": {each.place.name: revisions.headlines_of(each) for each in found}, "curves": alike}
    return json.dumps(records, indent=2) + "\n" if arguments.json else revisions.table(found, alike) + said


def _apply(arguments: argparse.Namespace) -> str:
    from permeation.takeaway import apply

    asked = {name: getattr(arguments, name) for name in ("method", "output", "bits", "size", "packed")}
    return (apply(**asked, project=PROJECT).folder / "README.md").read_text(encoding="utf-8")

"""The command `permeation`: what a run found, its page, experiments in a table, revisions compared."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import permeation
from permeation.frame.errors import PermeationError

if TYPE_CHECKING:
    from permeation.report.results import Place

PROJECT = Path()
REVISION = "git commit, branch or tag, DVC experiment, folder with results, or workspace"


def main() -> None:
    """Entry point; exits 1 with one line where something is missing."""
    parser = argparse.ArgumentParser(prog="permeation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    summary = commands.add_parser("summary", help="what a run found; default: the last one in this folder")
    summary.add_argument("revision", metavar="REV", nargs="?", default="workspace", help=REVISION)
    summary.add_argument("--markdown", action="store_true", help="as Markdown")
    commands.add_parser("page", help="write report.html, the page of the last run in this folder")
    commands.add_parser("experiments", help="what each experiment varied, beside its headline figures")
    compare = commands.add_parser(
        "compare", help="headline figures of revisions side by side, and how alike their g is"
    )
    compare.add_argument("revisions", metavar="REV", nargs="+", help=REVISION)
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    compare.add_argument("--output", metavar="DIR", type=Path, help="also write compare.json and compare.png here")
    arguments = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):  # pragma: no branch (tests catch what is printed)
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no σ shows a question mark for it
    try:
        _check_checkout()
        sys.stdout.write(globals()[f"_{arguments.command}"](arguments))
    except PermeationError as error:
        sys.exit(f"permeation: {error}")


def _check_checkout() -> None:
    """An environment that was copied with its folder runs the code of the folder in which it was made."""
    here, used = Path("src/permeation"), Path(permeation.__file__).parent
    if here.is_dir() and not here.samefile(used):
        raise PermeationError(f"this environment runs the code in {used}, not the one here; make setup mends that")


def parameters_at(place: Place) -> Mapping[str, Any] | None:
    """The checked params.yaml at a place; None where there is none."""
    from permeation import settings
    from permeation.frame.tables import parse_yaml
    from permeation.report.results import plain

    if (content := place.read("params.yaml")) is None:
        return None
    try:
        return plain(settings.checked(parse_yaml(content, "params.yaml")))
    except PermeationError as error:
        raise PermeationError(f"{place.name}: {error}") from error


def _summary(arguments: argparse.Namespace) -> str:
    from permeation.report import findings
    from permeation.report.results import Place, Results

    place = Place.find(PROJECT, arguments.revision)
    results = Results.read(place, parameters_at(place))
    return (findings.markdown if arguments.markdown else findings.summary)(PROJECT, results)


def _page(_: argparse.Namespace) -> str:
    from permeation.report.page import write_page
    from permeation.report.results import Place

    return f"{write_page(PROJECT, PROJECT, parameters_at(Place('workspace', PROJECT))).resolve().as_uri()}\n"


def _experiments(_: argparse.Namespace) -> str:
    from permeation.report import experiments

    return experiments.table(PROJECT, parameters_at)


def _compare(arguments: argparse.Namespace) -> str:
    from permeation.frame.tables import write_json
    from permeation.report import revisions
    from permeation.report.draw import save
    from permeation.report.figures import draw
    from permeation.report.results import Place, Results

    places = [Place.find(PROJECT, name) for name in arguments.revisions]
    found = [revisions.Revision.of(Results.read(place, parameters_at(place))) for place in places]
    alike = revisions.compare_g(found, seed=0)
    records = {"headlines": {each.name: each.headlines for each in found}, "g": alike}
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_json(arguments.output / "compare.json", records)
        if figure := draw("compare", revisions.curve_rows(found), {}):
            save(figure, arguments.output / "compare.png")
    return json.dumps(records, indent=2) + "\n" if arguments.json else revisions.table(found, alike)

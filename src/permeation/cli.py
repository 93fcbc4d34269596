"""The command `permeation`: what a run found, experiments in a table, revisions and folders of results compared."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import permeation
from permeation.frame.errors import PermeationError

PROJECT = Path()
REVISION = "git commit, branch or tag, DVC experiment, folder with results, or workspace"


def main() -> None:
    """Entry point; exits 1 with one line where something is missing."""
    parser = argparse.ArgumentParser(prog="permeation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    summary = commands.add_parser("summary", help="what a run found; default: the last one in this folder")
    summary.add_argument("revision", metavar="REV", nargs="?", default="workspace", help=REVISION)
    commands.add_parser("experiments", help="what each experiment varied, beside its headline figures")
    compare = commands.add_parser(
        "compare",
        help="all headline figures of revisions side by side, and how alike their g is",
        description="All headline figures side by side; correlation and RMSE of g between every two, per word and for "
        "the mean.",
    )
    compare.add_argument("revisions", metavar="REV", nargs="+", help=REVISION)
    compare.add_argument("--json", action="store_true", help="print JSON instead of tables")
    compare.add_argument("--output", metavar="DIR", type=Path, help="also write compare.json and compare.png here")
    arguments = parser.parse_args()
    if arguments.command == "compare" and len(arguments.revisions) < 2:
        compare.error("at least two revisions are needed")
    run = {"summary": _summary, "experiments": _experiments, "compare": _compare}[arguments.command]
    if isinstance(sys.stdout, io.TextIOWrapper):  # pragma: no branch (tests catch what is printed)
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no σ shows a question mark for it
    try:
        _check_checkout()
        sys.stdout.write(run(arguments))
    except PermeationError as error:
        sys.exit(f"permeation: {error}")


def _check_checkout() -> None:
    """An environment that was copied or moved with its folder runs the code of the folder in which it was made."""
    here, used = Path("src/permeation"), Path(permeation.__file__).parent
    if here.is_dir() and not here.samefile(used):
        link = ", once the link .venv is removed" if Path(".venv").is_symlink() else ""
        raise PermeationError(
            f"this environment runs the code in {used}, not the one here; make setup mends that{link}"
        )


def _summary(arguments: argparse.Namespace) -> str:
    from permeation.report.asking import results_at
    from permeation.report.findings import summarise
    from permeation.report.results import Place

    return summarise(results_at(Place.find(PROJECT, arguments.revision)))


def _experiments(_: argparse.Namespace) -> str:
    from permeation.report.experiments import experiments

    return experiments(PROJECT)


def _compare(arguments: argparse.Namespace) -> str:
    from permeation import config
    from permeation.frame.tables import write_json
    from permeation.report import revisions

    seed = config.load(PROJECT / "params.yaml").seed
    found = revisions.read_revisions(PROJECT, arguments.revisions)
    comparisons = revisions.compare_g(found, seed)
    records = {"headlines": {each.name: each.headlines for each in found}, "g": revisions.records(comparisons)}
    if arguments.output is not None:
        from permeation.report.figures import meaning, style

        style.use_style()
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_json(arguments.output / "compare.json", records)
        if comparisons:
            figure = meaning.revisions(revisions.curve_rows(comparisons))
            style.save(figure, arguments.output / "compare.png")
    if arguments.json:
        return json.dumps(records, indent=2) + "\n"
    return revisions.headline_table(found) + ("\n" + revisions.table(comparisons) if comparisons else "")

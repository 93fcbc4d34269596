"""`python -m permeation.report` writes report.html."""

import sys
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.report.asking import results_at
from permeation.report.page import write_page
from permeation.report.results import WORKSPACE, Place


def main() -> None:
    """Write the page of the run in the current folder; exits 1 with one line where something is missing."""
    try:
        path = write_page(results_at(Place(WORKSPACE, Path())))
    except PermeationError as error:
        sys.exit(f"report: {error}")
    sys.stdout.write(f"{path.resolve().as_uri()}\n")


if __name__ == "__main__":
    main()

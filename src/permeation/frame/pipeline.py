"""The stages of the project: those of dvc.yaml, which a plain `dvc repro` runs, and those of a file of their own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from permeation.frame.tables import read_yaml

DEFAULT = "dvc.yaml"
# Not in the default run: `dvc repro heads/dvc.yaml` (docs/heads.md). Its stages work in the project's folder (wdir).
ASKED_FOR = "heads/dvc.yaml"


@cache
def stages_of(project: Path) -> dict[str, Any]:
    """Every stage by its name; of a second file that a project has not, none. Read once in a process."""
    files = [project / DEFAULT, *(path for path in [project / ASKED_FOR] if path.is_file())]
    return {name: stage for path in files for name, stage in read_yaml(path)["stages"].items()}

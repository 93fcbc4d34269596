"""A small run, reported once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from permeation import settings
from permeation.report.axes import AXES
from permeation.report.gather import write_axis
from permeation.report.results import Place, Results, plain
from tests.support.project import PROJECT
from tests.support.sample_tables import write_stages

PARAMETERS = plain(settings.load(PROJECT / "params.yaml"))


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages of a small run wrote, and what the reports make of it; nobody writes into it."""
    root = write_stages(tmp_path_factory.mktemp("reported"))
    for axis in AXES.values():
        write_axis(axis, root, PROJECT, lambda stage: root / "data" / stage, PARAMETERS, "cpu")
    return root


@pytest.fixture
def run(reported: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return shutil.copytree(reported, tmp_path / "run")


@pytest.fixture(scope="session")
def results(reported: Path) -> Results:
    return Results.read(Place("sample", reported), PARAMETERS)


@pytest.fixture
def metrics(results: Results) -> Callable[..., dict[str, Any]]:
    """The run's metrics and parameters, with the figures of some files replaced, key by key."""
    return lambda **changed: replaced({**results.metrics, "parameters": results.parameters}, changed)


def replaced(part: Any, changed: dict[str, Any]) -> dict[str, Any]:
    """A nested mapping with the values of some of its keys replaced."""
    return part | {key: replaced(part[key], new) if isinstance(new, dict) else new for key, new in changed.items()}

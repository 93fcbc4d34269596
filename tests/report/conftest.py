"""A small run, reported once."""

import shutil
from collections.abc import Callable, Iterator
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


def report(root: Path, seed: int = 0) -> Path:
    """Write the stages of a small run under root, and what the reports make of them; gives root."""
    write_stages(root, seed)
    for axis in AXES:
        write_axis(axis, root, lambda stage: root / "data" / stage, PARAMETERS, "cpu")
    return root


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody writes into."""
    return report(tmp_path_factory.mktemp("reported"))


@pytest.fixture
def run(reported: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return shutil.copytree(reported, tmp_path / "run")


@pytest.fixture(scope="session")
def results(reported: Path) -> Results:
    return Results.read(Place("sample", reported), PARAMETERS)


@pytest.fixture
def metrics(results: Results) -> Iterator[Callable[..., dict[str, Any]]]:
    """The run's metrics, with one file's values replaced."""

    def changed(name: str, **values: Any) -> dict[str, Any]:
        return results.metrics | {name: results.metrics[name] | values}

    yield changed

"""requirements.lock pins what pyproject.toml asks for, and is what runs. That no package lacks another: pip check."""

import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT


def locked(name: str) -> list[Requirement]:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


LOCKED, RAY = locked("requirements.lock"), locked("requirements-ray.lock")
PINS = {canonicalize_name(requirement.name): requirement for requirement in LOCKED + RAY}
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
# setup builds without isolation
DIRECT = [*PYPROJECT["build-system"]["requires"], *PYPROJECT["project"]["dependencies"], *EXTRAS["dev"], *EXTRAS["ray"]]


def is_exact(requirement: Requirement) -> bool:
    return [(each.operator, "*" in each.version) for each in requirement.specifier] == [("==", False)]


def is_locked(requirement: Requirement) -> bool:
    pin = PINS.get(canonicalize_name(requirement.name))
    return pin is not None and requirement.specifier.contains(next(iter(pin.specifier)).version)


def test_every_line_is_one_exact_version() -> None:
    assert len(PINS) == len(LOCKED + RAY)
    assert [str(each) for each in LOCKED + RAY if not is_exact(each) or each.marker or each.extras or each.url] == []


@pytest.mark.parametrize("asked", DIRECT)
def test_what_the_project_asks_for_is_pinned_at_a_version_that_satisfies_it(asked: str) -> None:
    assert is_locked(Requirement(asked))


def test_the_packages_that_run_are_those_of_the_lock() -> None:
    installed = {canonicalize_name(each.name): metadata.version(each.name) for each in LOCKED}
    assert {k: v for k, v in installed.items() if not PINS[k].specifier.contains(v, prereleases=True)} == {}


@pytest.mark.parametrize(
    ("pip_audit", "code", "said"),
    [
        ("echo 'jinja2 3.1.5 PYSEC-1 3.1.6'; exit 1", 2, "jinja2 3.1.5 PYSEC-1 3.1.6"),
        ("echo 'ConnectionError' >&2; exit 1", 0, "not audited: pip-audit could not reach its service"),
    ],
)
def test_an_audit_fails_on_a_finding_and_says_what_was_not_looked_up(
    tmp_path: Path, pip_audit: str, code: int, said: str
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{pip_audit}\n")
    program.chmod(0o755)
    make = ["make", "-o", ".venv/ready", f"BIN={tmp_path}", "audit"]
    done = subprocess.run(make, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr

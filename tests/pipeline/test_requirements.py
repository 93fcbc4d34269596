"""requirements.lock pins everything that pyproject.toml asks for, down to the last dependency, and is what runs."""

import subprocess
import tomllib
from collections.abc import Iterable
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
PINS = {canonicalize_name(requirement.name): requirement for requirement in LOCKED}
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
# setup builds without isolation
DIRECT = [*PYPROJECT["build-system"]["requires"], *PYPROJECT["project"]["dependencies"], *EXTRAS["dev"]]
# torch's builds for CUDA bring libraries of their own, all but one pinned by torch; pip is the environment's own.
UNPINNED = {("torch", "cuda-bindings"), ("pip-api", "pip")}


def is_exact(requirement: Requirement) -> bool:
    return [(each.operator, "*" in each.version) for each in requirement.specifier] == [("==", False)]


def needed(name: str, extras: Iterable[str] = ()) -> list[Requirement]:
    """What an installed package asks for on this machine, with these of its extras."""
    asked = map(Requirement, metadata.requires(name) or [])
    return [
        each
        for each in asked
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def is_locked(requirement: Requirement, pins: dict[str, Requirement] = PINS) -> bool:
    pin = pins.get(canonicalize_name(requirement.name))
    return pin is not None and requirement.specifier.contains(next(iter(pin.specifier)).version)


def test_every_line_is_one_exact_version() -> None:
    assert len(PINS) == len(LOCKED)
    assert [str(each) for each in LOCKED + RAY if not is_exact(each) or each.marker or each.extras or each.url] == []


def test_ray_and_what_it_asks_for_is_pinned_beside_the_rest() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    pins = PINS | {canonicalize_name(each.name): each for each in RAY}
    asked = [*map(Requirement, EXTRAS["ray"]), *(each for ray in RAY for each in needed(ray.name))]
    assert [str(each) for each in asked if not is_locked(each, pins)] == []
    assert len(pins) == len(PINS) + len(RAY)


@pytest.mark.parametrize("asked", DIRECT)
def test_what_the_project_asks_for_is_pinned_at_a_version_that_satisfies_it(asked: str) -> None:
    assert is_locked(Requirement(asked))


def test_what_the_pinned_packages_ask_for_is_pinned_too() -> None:
    lacking = {
        f"{each} (of {name})"
        for name in PINS
        for each in needed(name)
        if not (is_locked(each) or is_exact(each) or (name, each.name) in UNPINNED)
    }
    assert lacking == set()


def test_the_packages_that_run_are_those_of_the_lock() -> None:
    installed = {name: metadata.version(name) for name in PINS}
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

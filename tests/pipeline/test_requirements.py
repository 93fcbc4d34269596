"""What runs is what the locks pin. That they hold all that the project asks for: pip check."""

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import PROJECT


def locked(name: str) -> list[str]:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-ray.lock"])
def test_every_line_is_one_exact_version(name: str) -> None:
    assert [line for line in locked(name) if not re.fullmatch(r"[\w.-]+==[\w.+]+", line)] == []


def test_the_packages_that_run_are_those_of_the_lock() -> None:
    asked = {each.name: each.specifier for each in map(Requirement, locked("requirements.lock"))}
    installed = {name: metadata.version(name) for name in asked}
    assert {k: v for k, v in installed.items() if not asked[k].contains(v, prereleases=True)} == {}


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

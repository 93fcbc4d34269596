"""Audit requirements.lock against the known vulnerabilities of the Python package index: `python -m tests.audit`.

pip-audit, in an environment of its own that goes afterwards, calls a package that it could not look up no
vulnerability; here that is no pass. Exit codes: 0 all were looked up and nothing is known; 1 a package is vulnerable;
75 not audited, which is said with its reason.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

PIP_AUDIT = "pip-audit==2.10.1"
AUDITED, VULNERABLE, NOT_AUDITED = 0, 1, 75  # EX_TEMPFAIL: another time or place may do


def verdict(dependencies: list[dict[str, Any]]) -> tuple[int, str]:
    """Exit code and line for what pip-audit's JSON says of each package."""
    found = [(each, vulnerability) for each in dependencies for vulnerability in each.get("vulns", [])]
    skipped = [each["skip_reason"] for each in dependencies if "skip_reason" in each]
    if found:
        return VULNERABLE, "; ".join(
            f"{each['name']} {each['version']}: {v['id']}, fixed in {', '.join(v['fix_versions']) or 'no version'}"
            for each, v in found
        )
    if skipped or not dependencies:
        reason = f"{len(skipped)} of {len(dependencies)} packages could not be looked up: {', '.join(skipped[:1])}"
        return NOT_AUDITED, f"NOT AUDITED: {reason}"
    return AUDITED, f"{len(dependencies)} packages audited, no known vulnerability"


def audit(lock: Path) -> tuple[int, str]:
    """Install pip-audit in a folder that goes, and judge what it prints."""
    options = ["--format", "json", "--progress-spinner", "off", "--no-deps", "--disable-pip"]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        for command in (["pip", "install", "--quiet", PIP_AUDIT], ["pip_audit", *options, "-r", str(lock)]):
            done = subprocess.run([python, "-m", *command], capture_output=True, text=True, check=False)
            if done.returncode and not done.stdout:
                reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
                return NOT_AUDITED, f"NOT AUDITED: {command[0]} failed: {reason}"
    return verdict(json.loads(done.stdout)["dependencies"])


if __name__ == "__main__":
    code, said = audit(Path("requirements.lock"))
    sys.stderr.write(f"audit: {said}\n")
    sys.exit(code)

"""What a long stage has measured so far, kept outside its outputs, so that an interrupted run goes on where it was.

An entry's key holds everything that its value depends on. An entry that cannot be read back whole is measured again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.frame.sealed import sha256, write_whole

# The libraries that do the arithmetic: what is kept depends on their versions.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch", "transformers")


def library_versions() -> dict[str, str]:
    """Of the libraries that do the arithmetic."""
    return {name: metadata.version(name) for name in LIBRARIES}


def fingerprint(files: Iterable[Path], settings: object) -> str:
    """SHA-256 of the files, the settings and the libraries' versions."""
    parts = (
        sha256(files),
        repr(settings),
        repr(library_versions()),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Journal:
    """JSON values by key, one file each.

    Attributes:
        folder: where the entries are. base: the `fingerprint` of what all of them depend on.
    """

    folder: Path
    base: str

    def remember(self, measure: Callable[[], dict[str, Any]], key: Mapping[str, Any]) -> dict[str, Any]:
        """The value kept under `key`; where there is none, what `measure` gives, which is then kept."""
        kept = self.recall(key)
        return self.keep(key, measure()) if kept is None else kept

    def recall(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The value kept under `key`; None where there is none."""
        return _read(*self._entry(key))

    def keep(self, key: Mapping[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        """Keep the value under `key`, and give it back."""
        path, identity = self._entry(key)
        entry = json.dumps({"identity": identity, "value": value, "check": _check(identity, value)}, allow_nan=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, entry)
        except (OSError, PermeationError) as error:
            # The value is good, and the disk may have room again by the time that the results are written.
            sys.stderr.write(f"not kept, so an interrupted run would measure it again: {dict(key)}: {error}\n")
        return value

    def _entry(self, key: Mapping[str, Any]) -> tuple[Path, str]:
        identity = json.dumps({"base": self.base, **key}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()}.json", identity


def _check(identity: str, value: Mapping[str, Any]) -> str:
    return hashlib.sha256((identity + json.dumps(value, sort_keys=True)).encode()).hexdigest()


def _read(path: Path, identity: str) -> dict[str, Any] | None:
    """The value in an entry, or None where the entry is missing, damaged or of another key."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        value = entry["value"]
        whole = entry["identity"] == identity and entry["check"] == _check(identity, value)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return value if whole else None

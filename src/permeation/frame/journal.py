"""What a long stage has measured so far, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

# The libraries that do the arithmetic.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch", "transformers")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that do the arithmetic."""
    return {name: metadata.version(name) for name in LIBRARIES}


def fingerprint(code: Iterable[Path], inputs: Iterable[Path], settings: object) -> str:
    """SHA-256 of what measurements depend on: code, the files in the input folders, settings, library versions.

    Input files count by name, size and time of change: reading gigabytes again would take longer than it saves.
    """
    digest = hashlib.sha256(repr((settings, library_versions())).encode())
    for path in sorted(code):
        digest.update(path.read_bytes())
    for path in sorted(path for folder in inputs for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Journal:
    """JSON values by key, one line each in `path`. Values under another `base`, a `fingerprint`, are ignored."""

    path: Path
    base: str

    @cached_property
    def _known(self) -> dict[str, Any]:
        known = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ():
            try:
                key, value = json.loads(line)
            except ValueError:  # empty, or cut off by a kill
                continue
            known[key] = value
        return known

    def recall(self, key: Mapping[str, Any]) -> Any:
        """The value kept under `key`; None where there is none."""
        return self._known.get(self._line(key))

    def keep(self, key: Mapping[str, Any], value: Any) -> Any:
        """Keep the value under `key`, and give it back."""
        self._known[self._line(key)] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps([self._line(key), value], allow_nan=False)}\n")
        return value

    def remember(self, measure: Callable[[], Any], key: Mapping[str, Any]) -> Any:
        """The value kept under `key`; where there is none, what `measure` gives, which is then kept."""
        kept = self.recall(key)
        return self.keep(key, measure()) if kept is None else kept

    def _line(self, key: Mapping[str, Any]) -> str:
        return json.dumps({"base": self.base, **key}, sort_keys=True)

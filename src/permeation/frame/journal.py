"""What a long stage has measured so far, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

ARITHMETIC = ("numpy", "scikit-learn", "scipy", "torch", "transformers")


def fingerprint(code: Iterable[Path], inputs: Iterable[Path], settings: object) -> str:
    """SHA-256 of what measurements depend on: code, the files in the input folders, settings, versions of libraries.

    Input files count by name, size and time of change: reading gigabytes again would take longer than it saves.
    """
    digest = hashlib.sha256(repr((settings, [version(name) for name in ARITHMETIC])).encode())
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
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # a kill cut the last line off
            os.truncate(self.path, len(whole))
        return dict(json.loads(line) for line in whole.splitlines())

    def recall(self, key: Mapping[str, Any]) -> Any:
        """The value kept under `key`; None where there is none."""
        return self._known.get(self._full(key))

    def keep(self, key: Mapping[str, Any], value: Any) -> Any:
        """Keep the value under `key`, and give it back."""
        self._known[self._full(key)] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([self._full(key), value], allow_nan=False) + "\n")
        return value

    def remember(self, measure: Callable[[], Any], key: Mapping[str, Any]) -> Any:
        """The value kept under `key`; where there is none, what `measure` gives, which is then kept."""
        kept = self.recall(key)
        return self.keep(key, measure()) if kept is None else kept

    def _full(self, key: Mapping[str, Any]) -> str:
        return json.dumps({"base": self.base, **key}, sort_keys=True)

"""What an output was asked to be: the parameters that it depends on, written beside it and compared when it is read.

A stage's output names every parameter that dvc.yaml lists for the stage, and those of the outputs that it was made
from; so what is read can be held to what is asked now, whoever runs the stage and however.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from permeation.frame.pipeline import stages_of
from permeation.frame.sealed import sha256
from permeation.frame.tables import read_json, write_json

# The file in an output that holds its parameters.
ASKED = "parameters.json"
# Parameters that may name a folder or a file, and what is kept beside them: of the words file what is in it, of a place
# outside the project where it is, as a checksum.
PLACES = ("model", "corpus", "words")
CONTENT, WHERE = "words.sha256", "place_sha256"

Flat = dict[str, Any]


def flat(values: Mapping[str, Any], prefix: str = "") -> Flat:
    """Nested values by dotted keys, as `dvc exp run -S` takes them; lists stay whole."""
    rows: Flat = {}
    for key, value in values.items():
        rows |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return rows


def asked_of(project: Path, config: Any) -> Flat:
    """Every parameter of a config by its dotted key, as it is recorded.

    Where a model or a file outside the project lies is nobody's business: its name stands for it, and a SHA-256 of the
    place, by which two of one name are told apart.
    """
    asked: Flat = json.loads(json.dumps(flat(asdict(config))))
    words = project / Path(asked["words"]).expanduser()
    if words.is_file():
        asked[CONTENT] = sha256([words])
    for key in PLACES:
        path = Path(os.path.normpath(asked[key])).expanduser()
        asked[key] = path.name if path.is_absolute() else str(path)
        if path.is_absolute():
            asked[f"{key}.{WHERE}"] = hashlib.sha256(str(path).encode()).hexdigest()
    return asked


def listed(project: Path, stage: str, asked: Flat) -> Flat:
    """Those that the pipeline lists for a stage; none for a stage that it does not name."""
    names = stages_of(project).get(stage, {}).get("params", ())
    return {key: value for key, value in asked.items() if any(key == n or key.startswith(f"{n}.") for n in names)}


def write_asked(folder: Path, parameters: Flat) -> None:
    """Write the parameters into an output's folder."""
    write_json(folder / ASKED, parameters)


def read_asked(folder: Path) -> Flat:
    """The parameters of an output; raises PermeationError where they cannot be read."""
    found: Flat = read_json(folder / ASKED)
    return found


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """In words, the parameters that were other ones; a parameter that one of the two does not know is none of them."""
    said = []
    for key in sorted((recorded.keys() & asked.keys()) - {CONTENT, *(f"{place}.{WHERE}" for place in PLACES)}):
        if recorded[key] != asked[key]:
            said.append(f"{key} was {shown(recorded[key])} and is {shown(asked[key])}")
        elif key in PLACES and recorded.get(f"{key}.{WHERE}") != asked.get(f"{key}.{WHERE}"):
            said.append(f"{key} was another {shown(asked[key])}, in another place")
        elif key == "words" and recorded.get(CONTENT) != asked.get(CONTENT):
            said.append(f"the words file {asked[key]} was another one")
    return said


def shown(value: Any) -> str:
    """A value in one line, as in params.yaml."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

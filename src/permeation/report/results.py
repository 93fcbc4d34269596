"""The results of a run, wherever they are: in this folder, another one, or a commit.

An axis is shown where the parameters recorded in metrics/<axis>_run.json equal those of the params.yaml beside it, for
the keys that the axis depends on. A folder of results without a params.yaml is shown as it is.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from permeation import settings
from permeation.frame.errors import PermeationError
from permeation.frame.tables import parse_yaml
from permeation.report.axes import AXES

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Place:
    """Where results are read.

    Attributes:
        name: as on the command line. folder: holds metrics/ and plots/. commit: None for the files as they are.
    """

    name: str
    folder: Path
    commit: str | None = None

    @classmethod
    def find(cls, project: Path, name: str) -> Place:
        """The place of that name: `workspace`, a folder with results, a DVC experiment, or a git revision."""
        if name == WORKSPACE:
            return cls(name, project)
        if (project / name / "metrics").is_dir():
            return cls(name, project / name)
        latest = ("for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(objectname)")
        experiment = git(project, *latest, f"refs/exps/*/*/{name}")
        commit = experiment or git(project, "rev-parse", "--verify", f"{name}^{{commit}}")
        if commit is None:
            raise PermeationError(
                f"{name!r} is no revision of this project; accepted: a git commit, branch or tag, the name of an "
                f"experiment (dvc exp show), a folder with results, or {WORKSPACE}"
            )
        return cls(name, project, commit)

    def read(self, path: str) -> str | None:
        """The content of a file; None where there is none."""
        if self.commit is not None:
            return git(self.folder, "show", f"{self.commit}:./{path}")
        file = self.folder / path
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def json(self, path: str) -> Any:
        """A JSON file; None where there is none."""
        try:
            return None if (content := self.read(path)) is None else json.loads(content)
        except ValueError as error:
            raise PermeationError(f"{self.name}: {path} is no JSON: {error}; git checkout mends it") from error

    def parameters(self) -> dict[str, Any] | None:
        """The checked params.yaml; None where there is none."""
        if (content := self.read("params.yaml")) is None:
            return None
        try:
            return plain(settings.checked(parse_yaml(content, "params.yaml")))
        except PermeationError as error:
            raise PermeationError(f"{self.name}: {error}") from error


def plain(config: Any) -> dict[str, Any]:
    """The parameters, a dataclass, as JSON holds them."""
    return dict(json.loads(json.dumps(asdict(config))))


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=False)
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def differing(recorded: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """The recorded parameters that params.yaml has otherwise now."""
    return [key for key, value in recorded.items() if parameters.get(key) != value]


@dataclass(frozen=True)
class Results:
    """What can be shown of a run.

    Attributes:
        place: where it was read.
        metrics: the metrics files by name, of the axes that are shown.
        runs: by the name of such an axis, its `model`, `corpus` (not of meaning), `parameters`, `device`, `versions`.
        refused: by the name of an axis, why it is not shown.
    """

    place: Place
    metrics: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, place: Place, parameters: Mapping[str, Any] | None) -> Results:
        """Read what can be shown at a place; raises PermeationError where nothing can.

        parameters: the params.yaml that the results have to be of; None for a folder without one.
        """
        found, here = cls(place), parameters is not None and place.commit is None
        for name, axis in AXES.items():
            run, remedy = place.json(f"metrics/{axis.run}.json"), f" Run: {axis.remedy}" if here else ""
            if run is None and not axis.on_demand:
                found.refused[name] = f"No results of {name} (metrics/{axis.run}.json).{remedy}"
            elif run is not None and parameters and (other := differing(run["parameters"], parameters)):
                why = f"params.yaml has another {', '.join(other)}.{remedy}"
                found.refused[name] = f"The results of {name} are not shown: {why}"
            elif run is not None:
                found.runs[name] = run
                files = ((file, place.json(f"metrics/{file}.json")) for file in axis.files)
                found.metrics.update((file, content) for file, content in files if content is not None)
        if not found.runs:
            raise PermeationError(f"{place.name}: {'; '.join(found.refused.values())}")
        return found

    @property
    def run(self) -> dict[str, Any]:
        """What the axes that are shown have in common: model, device, versions; `corpus` where an axis has a text."""
        return {key: value for run in reversed(self.runs.values()) for key, value in run.items()}

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters that what is shown depends on."""
        return {key: value for run in self.runs.values() for key, value in run["parameters"].items()}

    @property
    def about(self) -> str:
        """Model, text and words in one line; a quick run says so."""
        parameters, run = self.parameters, self.run
        quick = "QUICK RUN: " if parameters["quick"] else ""
        text = f" on {run['corpus']['name']}" if "corpus" in run else ""
        words = f", words of {parameters['words']}" if "words" in parameters else ""
        return f"{quick}{run['model']['name']}{text}{words}"

    @property
    def sizes(self) -> str:
        """The model's sizes in one line."""
        text = "{n_layers} layers of {n_heads} heads, d_model {d_model}, {millions:,.0f} million parameters"
        model = self.run["model"]
        return text.format(**model, millions=model["n_parameters"] / 1e6)

"""The results of a run, wherever they are, held to the parameters that stand beside them before anything is shown.

Each axis has a file that says of which model, text, words and settings it is (metrics/<axis>_run.json). Where
params.yaml asks for something else, the axis is left out, and what differs is said. Where the axes meet
(permeation.report.axes.HEADS) is run on demand: it is shown beside axes of the same run, and not missed elsewhere.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from permeation.frame.asked import Flat, differences
from permeation.frame.errors import PermeationError
from permeation.report.axes import AXES, HEADS, Axis

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Place:
    """Where results are read: a folder, or a commit of the project in it.

    Attributes:
        name: as it was asked for. folder: the one that holds metrics/ and plots/. commit: None for files as they are.
    """

    name: str
    folder: Path
    commit: str | None = None

    @classmethod
    def find(cls, project: Path, name: str) -> Place:
        """What a name on the command line stands for.

        That is `workspace`, a folder with results, a git commit, branch or tag, or a DVC experiment. Raises
        PermeationError for anything else.
        """
        if name == WORKSPACE:
            return cls(name, project)
        if (project / name / "metrics").is_dir():
            return cls(name, project / name)
        return cls(name, project, resolve(project, name))

    def read(self, path: str) -> bytes | None:
        """The content of a file; None where there is none."""
        if self.commit is None:
            file = self.folder / path
            return file.read_bytes() if file.is_file() else None
        command = ["git", "show", f"{self.commit}:./{path}"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def json(self, path: str) -> Any:
        """A JSON file; None where there is none. Raises PermeationError where it cannot be read."""
        content = self.read(path)
        try:
            return None if content is None else json.loads(content)
        except (ValueError, RecursionError) as error:
            raise PermeationError(f"{self.name}: {path}: cannot be read as JSON: {error}") from error


@dataclass(frozen=True)
class Results:
    """What can be shown of a run.

    Attributes:
        place: where it was read.
        metrics: the metrics files by name, of the axes that are shown.
        runs: by the name of such an axis, what it was run with: `model`, `corpus` (of the weights), `parameters`,
            `versions`.
        refused: by the name of an axis, in words, why it is not shown.
    """

    place: Place
    metrics: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, place: Place, asked: Flat | None, meeting: bool = True) -> Results:
        """Read what can be shown at a place.

        Raises PermeationError where nothing can.

        Args:
            asked: the parameters that it is held to (permeation.report.asking); None for results that stand alone.
            meeting: with what was found where the axes meet, too.
        """
        found = cls(place)
        for axis in AXES:
            found._read_axis(axis, asked)
        if not found.runs:
            raise PermeationError(f"{place.name}: {' '.join(found.refused.values())}")
        if len(found.runs) == len(AXES):
            one, other = (run["parameters"] for run in found.runs.values())
            if apart := differences(one, other):
                raise PermeationError(f"{place.name}: the two axes are of different runs: {'; '.join(apart)}")
            # The claims are of both, and made by a stage after them.
            claims, made_of = (place.json(f"metrics/{name}.json") for name in ("claims", "provenance"))
            if claims is not None and made_of is not None and made_of["parameters"] == found.parameters:
                found.metrics["claims"] = claims
        if meeting:
            found._read_meeting(HEADS, asked)
        return found

    def _read_meeting(self, part: Axis, asked: Flat | None) -> None:
        """Read what is of the run that is shown, and put its claims in the place of those that `report` wrote."""
        run = self.place.json(f"metrics/{part.run}.json")
        if run is None or differences(run["parameters"], self.parameters | (asked or {})):
            return
        self._show(part, run)
        claims = self.place.json(f"metrics/{part.claims}.json")
        if claims is not None and "claims" in self.metrics:
            self.metrics["claims"] = self.metrics["claims"] | claims

    def _read_axis(self, axis: Axis, asked: Flat | None) -> None:
        remedy = f"Run: .venv/bin/dvc repro {axis.stage}"
        if (run := self.place.json(f"metrics/{axis.run}.json")) is None:
            self.refused[axis.name] = f"The {axis.name} axis has no results (metrics/{axis.run}.json). {remedy}"
            return
        if asked is not None and (other := differences(run["parameters"], asked)):
            self.refused[axis.name] = (
                f"The {axis.name} axis is not shown, for metrics/ has it with other parameters than params.yaml: "
                f"{'; '.join(other)}. {remedy}"
            )
            return
        self._show(axis, run)

    def _show(self, axis: Axis, run: Any) -> None:
        self.runs[axis.name] = run
        for name in axis.files:
            if (content := self.place.json(f"metrics/{name}.json")) is not None:
                self.metrics[name] = content

    @property
    def parameters(self) -> Flat:
        """All parameters that what is shown depends on."""
        return {key: value for run in self.runs.values() for key, value in run["parameters"].items()}

    @property
    def model(self) -> dict[str, Any]:
        """The model's facts; the axes agree on it, for both are held to the same parameters."""
        return next(run["model"] for run in self.runs.values())

    @property
    def corpus(self) -> dict[str, Any] | None:
        """The text's facts, where the weight axis is shown."""
        return next((run["corpus"] for run in self.runs.values() if "corpus" in run), None)

    @property
    def versions(self) -> dict[str, str]:
        """Of Python and of the packages, when the axes were gathered."""
        return {name: version for run in self.runs.values() for name, version in run["versions"].items()}

    @property
    def title(self) -> str:
        """Model and text; a quick run says so."""
        quick = "QUICK RUN, of little text: " if self.parameters.get("quick") else ""
        text = f" on {self.corpus['name']}" if self.corpus else ""
        return f"{quick}{self.model['name']}{text}"

    @property
    def about(self) -> str:
        """Model, text and words in one line."""
        words = f", words of {self.parameters['words']}" if "words" in self.parameters else ""
        return f"{self.title}{words}"


def resolve(project: Path, name: str) -> str:
    """The commit that a git revision or the name of a DVC experiment stands for; raises PermeationError for others."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError, resolve_rev

    try:
        with Repo(str(project)) as repository:
            return str(resolve_rev(repository.scm, name))
    except (DvcException, SCMError) as error:
        raise PermeationError(
            f"{name!r} is no revision of this project; accepted: a git commit, branch or tag, the name of an "
            f"experiment (dvc exp show), a folder with results, or {WORKSPACE}"
        ) from error

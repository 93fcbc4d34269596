"""g of two or more revisions side by side: git commits, branches and tags, DVC experiments, or the workspace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.frame.errors import PermeationError
from permeation.meaning.likeness import Likeness, compare_curves, compare_means, on_grid

WORKSPACE = "workspace"
GRID_POINTS = 101
RESAMPLES = 2000


@dataclass(frozen=True)
class Revision:
    """The g curves that a revision holds.

    Attributes:
        name: as it was asked for. model: the model's name.
        g: word to curve, one value a layer.
    """

    name: str
    model: str
    g: dict[str, Float[np.ndarray, "layers"]]

    @classmethod
    def read(cls, project: Path, name: str) -> Revision:
        """Read a revision of the project; raises PermeationError where it is unknown or holds no results."""
        commit = None if name == WORKSPACE else resolve(project, name)
        rows, run = (_show(project, name, commit, path) for path in ("plots/g.json", "metrics/run.json"))
        curves: dict[str, list[float]] = {}
        for row in rows:
            if row["kind"] == "word":
                curves.setdefault(row["word"], []).append(row["g"])
        return cls(name, run["model"], {word: np.array(curve) for word, curve in curves.items()})


@dataclass(frozen=True)
class RevisionPair:
    """Two revisions, word by word and in the mean over the words they share."""

    first: Revision
    second: Revision
    words: dict[str, Likeness]
    mean: Likeness

    @classmethod
    def between(cls, first: Revision, second: Revision, seed: int) -> RevisionPair:
        """Compare two revisions; raises PermeationError where they share no word."""
        shared = [word for word in first.g if word in second.g]
        if not shared:
            raise PermeationError(f"{first.name} and {second.name} have no word in common")
        x, y = (on_grid(np.stack([each.g[word] for word in shared]), GRID_POINTS) for each in (first, second))
        words = {word: compare_curves(*pair) for word, *pair in zip(shared, x, y, strict=True)}
        return cls(first, second, words, compare_means(x, y, RESAMPLES, np.random.default_rng(seed)))


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
            f"experiment (dvc exp show), or {WORKSPACE}"
        ) from error


def compare_revisions(project: Path, names: Sequence[str], seed: int) -> list[RevisionPair]:
    """Every pair of the revisions, in the order given."""
    revisions = [Revision.read(project, name) for name in names]
    return [RevisionPair.between(*pair, seed) for pair in combinations(revisions, 2)]


def table(comparisons: Sequence[RevisionPair]) -> str:
    """The comparisons as text, a line per word and one for the mean."""
    lines = [f"g on {GRID_POINTS} depths l/L, linear between layers; 95 % intervals from drawing words"]
    for each in comparisons:
        lines += ["", f"{title(each.first)}  against  {title(each.second)}", f"  {'':10} {'correlation':<24} RMSE"]
        for word, likeness in (each.words | {"mean": each.mean}).items():
            r = _with_interval(likeness.correlation, likeness.correlation_low, likeness.correlation_high)
            lines.append(f"  {word:10} {r:<24} {_with_interval(likeness.rmse, likeness.rmse_low, likeness.rmse_high)}")
    return "\n".join(lines) + "\n"


def records(comparisons: Sequence[RevisionPair]) -> list[dict[str, Any]]:
    """The comparisons as JSON objects, one per pair of revisions and word (and `mean`)."""
    return [
        {"first": each.first.name, "second": each.second.name}
        | {"first_model": each.first.model, "second_model": each.second.model, "word": word}
        | asdict(likeness)
        for each in comparisons
        for word, likeness in (each.words | {"mean": each.mean}).items()
    ]


def curve_rows(comparisons: Sequence[RevisionPair]) -> list[dict[str, Any]]:
    """Each revision's g per word and layer, and its mean, for the figure."""
    revisions = {each.name: each for pair in comparisons for each in (pair.first, pair.second)}
    return [
        {"revision": title(revision), "word": word, "depth": x, "g": float(y)}
        for revision in revisions.values()
        for word, curve in (revision.g | {"mean": np.mean(list(revision.g.values()), axis=0)}).items()
        for x, y in zip(np.linspace(0, 1, len(curve)), curve, strict=True)
    ]


def title(revision: Revision) -> str:
    """How a revision is called in print."""
    return f"{revision.name} ({revision.model})"


def _show(project: Path, name: str, commit: str | None, path: str) -> Any:
    if commit is None:
        file = project / path
        content = file.read_text(encoding="utf-8") if file.is_file() else None
    else:
        done = subprocess.run(
            ["git", "show", f"{commit}:./{path}"], cwd=project, capture_output=True, encoding="utf-8", check=False
        )
        content = done.stdout if done.returncode == 0 else None
    if content is None:
        raise PermeationError(
            f"{name} holds no {path}; run the pipeline there first (dvc repro) and commit its results"
        )
    return json.loads(content)


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f}  [{low:.4f}, {high:.4f}]"

"""The experiments of a project: what each of them varied, beside the figures by which one compares them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.report.axes import flat, look_up
from permeation.report.results import WORKSPACE, Place, Results, experiments
from permeation.report.sections import WIDTH, columns, number

# What stands beside an experiment: heading to the metrics file and the keys in it.
FIGURES = {
    "within": "g.reliability.within",
    "between": "g.reliability.between",
    "AUC": "decode.gradient_own.auc",
    "K for 90 %": "pca.components_for_variance.90",
    "perplexity": "perplexity.baseline.perplexity",
    "bits": "rivals.best_bits",
}


def table(project: Path, parameters_at: Callable[[Place], Mapping[str, Any] | None]) -> str:
    """The committed run, the workspace, and every experiment that DVC knows, the latest first; then what each varied.

    An axis whose results are not of its own params.yaml has dashes; so has a run that this version cannot read.
    """
    places = [Place("HEAD", project, "HEAD"), Place(WORKSPACE, project)]
    places += [Place(name, project, commit) for name, commit in experiments(project).items()]
    base = flat(parameters_at(places[0]) or {})
    rows, varied = [], []
    for place in places:
        metrics: dict[str, Any] = {}
        try:
            parameters = parameters_at(place) or {}
            changed = {key: value for key, value in flat(parameters).items() if base.get(key) != value}
            said = " ".join(f"{key}={json.dumps(value)}" for key, value in changed.items()) or "as committed"
            with suppress(PermeationError):  # no results of its own parameters
                metrics = Results.read(place, parameters).metrics
        except PermeationError as error:
            said = str(error).removeprefix(f"{place.name}: ")
        rows.append((place.name, *(number(look_up(metrics, path)) for path in FIGURES.values())))
        varied.append(textwrap.shorten(f"{place.name}: {said}", 3 * WIDTH, placeholder=" …"))
    lines = [textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in varied]
    return "\n".join([*columns(("experiment", *FIGURES), rows), "", *lines]) + "\n"

"""What params.yaml asks for where results are: in this folder, in another one, or in a commit."""

from __future__ import annotations

import hashlib

import yaml

from permeation import config
from permeation.frame.asked import CONTENT, Flat, asked_of
from permeation.frame.errors import PermeationError
from permeation.report.results import Place, Results


def asked_at(place: Place) -> Flat | None:
    """The parameters asked for; None in a folder of results that has no params.yaml.

    Raises PermeationError where they are not accepted by this version of the project.
    """
    if (content := place.read("params.yaml")) is None:
        return None
    try:
        settings = config.checked_config(yaml.safe_load(content))
    except (PermeationError, yaml.YAMLError) as error:
        raise PermeationError(f"{place.name}: {error}".replace("\n", " ")) from error
    asked = asked_of(place.folder, settings)
    words = place.read(settings.words)
    return asked if words is None else asked | {CONTENT: hashlib.sha256(words).hexdigest()}


def results_at(place: Place) -> Results:
    """What can be shown at a place, held to its params.yaml."""
    return Results.read(place, asked_at(place))

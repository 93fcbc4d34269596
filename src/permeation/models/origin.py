"""What a model or a text is called, and what is recorded of where it came from.

What is fetched is either pinned by its SHA-256 (wheels) or recorded by the revision that the hub resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class Origin:
    """Where a model or text came from, as it is recorded next to it; no path of the machine is kept.

    Attributes:
        name: what the person asked for. source: what that stood for. revision: the commit that the hub resolved, or
            the SHA-256 of a file. terms: what its use is bound to, where that has to be said.
    """

    name: str
    source: str
    revision: str | None
    terms: str | None = None


def path_of(key: str, name: str) -> Path:
    """A name as a path; raises PermeationError, with the parameter, for the home of a user that is not there."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise PermeationError(f"{key} is {name!r}; there is no such user") from error

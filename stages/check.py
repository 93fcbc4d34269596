"""Check that the settings can be used, before anything is computed."""

from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/check/, the same for all settings that can be used; the other stages wait for it."""
    if not Path(stage.place(words := stage.config.words)).is_file():
        raise PermeationError(f"words is {words}, which is not there; accepted: a file as data/words.yaml or a table")
    stage.write({}, {})

"""Check that the settings can be used, before anything is computed."""

from permeation.frame.device import find_device
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/check/, the same for all settings that can be used; the other stages wait for it."""
    find_device(stage.config.device)
    stage.words()
    stage.write({}, {})

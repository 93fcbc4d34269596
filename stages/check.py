"""Check that the settings can be used, before anything is computed."""

from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/check/, the same for all settings that can be used; the other stages wait for it."""
    if stage.config.device in ("cuda", "mps"):
        _ = stage.device
    stage.words()
    stage.write({}, {})

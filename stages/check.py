"""Check that the settings can be used, before anything is computed."""

from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/check/, the same for all settings that can be used; the other stages wait for it."""
    if stage.config.device in ("cuda", "mps"):  # the others are everywhere, and PyTorch takes seconds to import
        _ = stage.device  # raises where it is not here
    stage.words()
    stage.write({}, {})

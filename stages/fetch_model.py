"""Fetch the model named in params.yaml and write it as a transformers checkpoint with a model.json next to it."""

import sys
from dataclasses import asdict

from permeation.frame.tables import sha256, write_json
from permeation.models.agreement import checked_geometry
from permeation.models.sources import fetch_model
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/model/."""
    with stage.output("model") as folder:
        origin = fetch_model(stage.place(stage.config.model), folder)
        if origin.terms is not None:
            sys.stderr.write(f"{stage.name}: {origin.terms}\n")
        weights = {"sha256": sha256(sorted(folder.glob("*.safetensors")))}
        write_json(folder / "model.json", asdict(origin) | weights | checked_geometry(folder))

"""Fetch the model named in params.yaml and write it as a transformers checkpoint with a model.json next to it."""

from dataclasses import asdict

from permeation.frame.sealed import sha256
from permeation.frame.tables import write_json
from permeation.models.families import geometry_of
from permeation.models.load import load_model
from permeation.models.sources import fetch_model
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/model/."""
    with stage.output("model") as folder:
        origin = fetch_model(stage.place(stage.config.model), folder)
        loaded = load_model(folder)
        facts = {
            **asdict(origin),
            "sha256": sha256(sorted(folder.glob("*.safetensors"))),
            **asdict(geometry_of(loaded)),
        }
        write_json(folder / "model.json", facts)


if __name__ == "__main__":
    run(main)

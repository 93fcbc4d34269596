"""Fetch the model named in params.yaml and write it as a transformers checkpoint with a model.json next to it."""

from dataclasses import asdict

from permeation import model as models
from permeation.files import sha256, write_json
from permeation.sources import fetch_model
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/model/."""
    with stage.output("model") as folder:
        origin = fetch_model(stage.config.model, folder)
        loaded = models.load(folder)
        facts = {
            **asdict(origin),
            "sha256": sha256(sorted(folder.glob("*.safetensors"))),
            **asdict(models.geometry(loaded)),
        }
        write_json(folder / "model.json", facts)


if __name__ == "__main__":
    run(main)

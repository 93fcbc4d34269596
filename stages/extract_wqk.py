"""Take the attention weights of every head out of the model, with the norm in front folded in and as they are."""

from permeation.frame.tables import write_json
from permeation.models.load import load_folded
from permeation.stage import Stage
from permeation.weights.heads import read_heads


def main(stage: Stage) -> None:
    """Write data/extract_wqk/: heads.safetensors, folded, with V and O; unfolded.safetensors; summary.json."""
    model = stage.input("model")
    heads = read_heads(load_folded(model, True, stage.device), whole=True)
    unfolded = read_heads(load_folded(model, False, stage.device))
    with stage.output() as folder:
        heads.write(folder)
        unfolded.write(folder, "unfolded")
        write_json(folder / "summary.json", {"pca": {"n_heads": heads.count, "d_head": heads.W_Q.shape[-1]}})

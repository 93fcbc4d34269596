"""Take W_Q and W_K of every head out of the model, with the norm in front folded in and as they are."""

from permeation.frame.tables import write_json
from permeation.models.load import load_folded
from permeation.stage import Stage
from permeation.weights.heads import read_heads


def main(stage: Stage) -> None:
    """Write data/extract_wqk/: heads.safetensors (W_Q, W_K, b_Q, b_K, folded), unfolded.safetensors; summary.json."""
    model = stage.input("model")
    heads, unfolded = (read_heads(load_folded(model, fold, stage.device)) for fold in (True, False))
    with stage.output() as folder:
        heads.write(folder)
        unfolded.write(folder, "unfolded")
        write_json(folder / "summary.json", {"pca": {"n_heads": heads.count, "d_head": heads.W_Q.shape[-1]}})

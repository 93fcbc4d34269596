"""Take W_Q and W_K of every head out of the model, with the norm folded in where wqk.fold_norm says so."""

from permeation.frame.tables import write_json
from permeation.models.load import load_folded
from permeation.stage import Stage, run
from permeation.weights.heads import read_heads


def main(stage: Stage) -> None:
    """Write data/extract_wqk/: heads.safetensors with W_Q, W_K, b_Q, b_K; summary.json."""
    heads = read_heads(load_folded(stage.input("model"), stage.config.wqk.fold_norm, stage.device))
    with stage.output() as folder:
        heads.write(folder)
        write_json(folder / "summary.json", {"pca": {"n_heads": heads.count, "d_head": heads.W_Q.shape[-1]}})


if __name__ == "__main__":
    run(main)

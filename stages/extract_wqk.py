"""Take W_Q and W_K of every head out of the model, with the norm folded in, and form their W_QK."""

from safetensors.torch import save_file

from permeation.frame.tables import write_json
from permeation.models.load import load_folded
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/extract_wqk/: heads.safetensors with W_Q, W_K, b_Q, b_K and gram (n, d_head, d_head)."""
    heads = read_heads(load_folded(stage.input("model"), stage.config.wqk.fold_norm, stage.device))
    injection = GramInjection.fit(heads)
    with stage.output() as folder:
        save_file({**heads.tensors(), "gram": injection.own}, folder / "heads.safetensors")
        summary = {
            "n_heads": heads.count,
            "d_head": heads.W_Q.shape[-1],
            "condition_of_keys": {
                "median": float(injection.condition.median()),
                "max": float(injection.condition.max()),
            },
        }
        write_json(folder / "summary.json", summary)


if __name__ == "__main__":
    run(main)

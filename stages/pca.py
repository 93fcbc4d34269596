"""Principal components of the heads' W_QK in each form and metric, beside those of random heads."""

import torch
from safetensors.torch import load_file, save_file

from permeation.frame.tables import write_json, write_rows
from permeation.weights.forms import circuit_kernel, gram_kernel, score_kernel
from permeation.weights.heads import Heads
from permeation.weights.moments import Moments
from permeation.weights.pca import fit_pca, share_table
from permeation.weights.random_heads import random_circuit_kernel, random_gram_kernel, random_score_kernel, unit_norm
from stages import Stage, run

SHARES = (0.50, 0.80, 0.90, 0.95, 0.99)
# The key in the metrics of each kind of heads whose spectrum is reported.
KINDS = {
    "own": "as they are",
    "unit": "unit norm",
    "null": "random frames",
    "unit_null": "random frames, unit norm",
}


def main(stage: Stage) -> None:
    """Write data/pca/: per form its eigenvalues, vectors and coefficients; the spectra in summary.json, plots/."""
    device = "cpu" if stage.device.type == "mps" else str(stage.device)  # MPS has no float64
    tensors = load_file(stage.input("extract_wqk") / "heads.safetensors", device=device)
    tensors.pop("gram")
    heads = Heads(**tensors)
    moments = Moments.from_tensors(load_file(stage.input("moments") / "moments.safetensors"))
    generator = torch.Generator().manual_seed(stage.config.seed)
    kernels = {
        "gram": (gram_kernel(heads), random_gram_kernel(heads, generator)),
        "circuit": (circuit_kernel(heads), random_circuit_kernel(heads, generator)),
    }
    for form, mean_key in (("score", True), ("score_centred", False)):
        own = score_kernel(heads, moments, mean_key)
        kernels[form] = own, random_score_kernel(heads, moments, own, generator, mean_key)
    fits = {
        form: {
            kind: fit_pca(kernel, stage.config.pca.center)
            for kind, kernel in zip(KINDS, (own, unit_norm(own), null, unit_norm(null)), strict=True)
        }
        for form, (own, null) in kernels.items()
    }
    with stage.output() as folder:
        for form, kinds in fits.items():
            save_file(kinds["own"].tensors(), folder / f"{form}.safetensors")
        spectra = {
            form: {
                "components_for_variance": share_table(kinds["own"], SHARES),
                "explained_variance_ratio": {
                    str(i + 1): float(kinds["own"].explained_variance_ratio[i]) for i in range(3)
                },
            }
            for form, kinds in fits.items()
        }
        summary = {"n_heads": heads.count, "d_head": heads.W_Q.shape[-1], **spectra.pop("gram"), **spectra}
        for kind in list(KINDS)[1:]:
            summary[kind] = {form: share_table(kinds[kind], SHARES) for form, kinds in fits.items()}
        write_json(folder / "summary.json", summary)
        write_rows(
            folder / "plots" / "spectrum.json",
            (
                {"form": form, "heads": KINDS[kind], "components": i + 1, "cumulative": float(share)}
                for form, kinds in fits.items()
                for kind, pca in kinds.items()
                for i, share in enumerate(pca.explained_variance_ratio.cumsum(0))
            ),
        )


if __name__ == "__main__":
    run(main)

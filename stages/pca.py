"""Principal components of the heads' W_QK, in gram form and in circuit form."""

from safetensors.torch import load_file, save_file

from permeation.files import write_json, write_rows
from permeation.stage import Stage, run
from permeation.weights import decompose
from permeation.weights.heads import Heads
from permeation.weights.inner_product import circuit_kernel, gram_kernel

SHARES = (0.50, 0.80, 0.90, 0.95, 0.99)


def main(stage: Stage) -> None:
    """Write data/pca/: per form its eigenvalues, vectors and coefficients; the spectra in summary.json, plots/."""
    tensors = load_file(stage.input("extract_wqk") / "heads.safetensors", device=str(stage.device))
    tensors.pop("gram")
    heads = Heads(**tensors)
    fits = {
        "gram": decompose.fit(gram_kernel(heads), stage.config.pca.center),
        "circuit": decompose.fit(circuit_kernel(heads), stage.config.pca.center),
    }
    with stage.output() as folder:
        for form, pca in fits.items():
            save_file(pca.tensors(), folder / f"{form}.safetensors")
        gram, circuit = (
            {
                "components_for_variance": decompose.share_table(pca, SHARES),
                "explained_variance_ratio": {str(i + 1): float(pca.explained_variance_ratio[i]) for i in range(3)},
            }
            for pca in fits.values()
        )
        summary = {"n_heads": heads.count, "d_head": heads.W_Q.shape[-1], **gram, "circuit": circuit}
        write_json(folder / "summary.json", summary)
        write_rows(
            folder / "plots" / "spectrum.json",
            (
                {"form": form, "components": i + 1, "cumulative": float(share)}
                for form, pca in fits.items()
                for i, share in enumerate(pca.explained_variance_ratio.cumsum(0))
            ),
        )


if __name__ == "__main__":
    run(main)

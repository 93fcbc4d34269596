"""Principal components of the heads' W_QK in each form and of W_OV, beside those of random heads."""

from permeation.frame.tables import write_results
from permeation.stage import Stage
from permeation.weights.heads import Heads
from permeation.weights.moments import Moments
from permeation.weights.spectra import fit_spectra, head_rows, spectra_rows, spectra_summary


def main(stage: Stage) -> None:
    """Write data/pca/: eigenvalues and vectors by form, and of random heads; summary.json; plots/."""
    device = "cpu" if stage.device.type == "mps" else str(stage.device)  # MPS has no float64
    weights, moments = stage.input("extract_wqk"), Moments.read(stage.input("moments"))
    heads, unfolded = Heads.read(weights, device, whole=True), Heads.read(weights, device, "unfolded")
    fits = fit_spectra(heads, unfolded, moments, stage.config.pca.center, stage.config.seed)
    sizes = {"n_heads": heads.count, "d_head": heads.W_Q.shape[-1]}
    with stage.output() as folder:
        for form, kinds in fits.items():
            kinds["own"].write(folder, form)
            kinds["null"].write(folder, f"{form}_null")
        plots = {"spectrum": spectra_rows(fits), "heads": head_rows(fits, heads.W_Q.shape[1])}
        write_results(folder, {"pca": sizes | spectra_summary(fits)}, plots)

"""Principal components of the heads' W_QK in each form and metric, beside those of random heads."""

from permeation.frame.tables import write_json, write_rows
from permeation.weights.heads import Heads
from permeation.weights.moments import Moments
from permeation.weights.spectra import Spectra
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/pca/: per form its eigenvalues and vectors; the spectra in summary.json and plots/spectrum.json."""
    device = "cpu" if stage.device.type == "mps" else str(stage.device)  # MPS has no float64
    heads = Heads.read(stage.input("extract_wqk"), device)
    spectra = Spectra.fit(heads, Moments.read(stage.input("moments")), stage.config.pca.center, stage.config.seed)
    with stage.output() as folder:
        for form, kinds in spectra.fits.items():
            kinds["own"].write(folder, form)
        sizes = {"n_heads": heads.count, "d_head": heads.W_Q.shape[-1]}
        write_json(folder / "summary.json", sizes | spectra.summary())
        write_rows(folder / "plots" / "spectrum.json", spectra.rows())


if __name__ == "__main__":
    run(main)

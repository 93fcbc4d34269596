"""Factorise σ = h · f_max · g, with intervals, and fit the laws of f and of g."""

from permeation.meaning.activations import Activations
from permeation.meaning.factors import word_residuals
from permeation.meaning.shape import fit_shape
from permeation.meaning.sigma import layer_index
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/fit_g/: summary.json, plots/g.json, plots/response.json."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    words = word_residuals(activations, layer_index(config.sigma.direction_layer, activations.at_word.shape[1]))
    field = "rank" if activations.labelled else config.response.field
    found, tables = fit_shape(words, field, config.g.exclude_final, config.bootstrap.resamples, config.seed)
    stage.write({"g": found}, tables)

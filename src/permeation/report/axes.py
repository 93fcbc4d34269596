"""The two axes, where they meet, and models together: their stages, metrics files and headline figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching
from typing import Any

SPREAD = 3  # headlines of a list (K, k, methods), spread over it


@dataclass(frozen=True)
class Axis:
    """One axis of the analysis.

    Attributes:
        name: its folder under plots/, and the name of its headlines, metrics/<name>.json.
        stages: the stages that it gathers, in order.
        files: the metrics files that their summaries make up.
        headlines: <metrics file>.<key>, with wildcards. `dvc metrics diff` and `permeation compare` show these alone.
        on_demand: run by a pipeline of its own, <name>/dvc.yaml.
    """

    name: str
    stages: Sequence[str]
    files: Sequence[str]
    headlines: Sequence[str]
    on_demand: bool = False

    @property
    def run(self) -> str:
        """The metrics file that says with what the axis was run: model, text, parameters, device, versions."""
        return f"{self.name}_run"

    @property
    def remedy(self) -> str:
        """The command that brings the axis up to date."""
        return f"dvc repro {self.name}/dvc.yaml" if self.on_demand else f"dvc repro report_{self.name}"


_MEANING = """
    sigma.n_words sigma.order_tau decode.gradient_own.auc decode.gradient_own.decoded_depth
    g.reliability.within g.reliability.between g.reliability.p g.peak_depth g.alpha
    g.rank.word_correlation_mean g.rank.null_correlation_mean g.rank.p_correlation_mean
    intervene.onset.value intervene.control_max
"""
_WEIGHTS = """
    pca.components_for_variance.90 pca.null.gram.90 perplexity.baseline.perplexity
    perplexity.ratio.* perplexity.first_layer_kept.ratio.* clusters.ratio.*
    rivals.best rivals.best_bits rivals.bits_at_1_05.*
"""
_HEADS = """
    head_roles.heads.exchange head_roles.heads.within_sense head_roles.largest.share head_roles.agreement.value
    head_roles.beside.exchange.low_variance_gram.value compressed.gap.least_within_5.kept
"""
_MODELS = """
    universal.components_90.* universal.null_90.* universal.untrained_over_trained.* universal.mean_over_mean_and_k.*
"""
MEANING = Axis(
    "meaning",
    ("extract_activations", "compute_sigma", "fit_g", "controls", "intervene"),
    ("sigma", "g", "decode", "intervene"),
    _MEANING.split(),
)
WEIGHTS = Axis(
    "weights",
    ("pca", "baseline", "reconstruct", "cluster", "rivals"),
    ("pca", "perplexity", "clusters", "rivals"),
    _WEIGHTS.split(),
)
# On demand: both axes meet in the heads (docs/heads.md); models of one shape (docs/models-together.md).
HEADS = Axis("heads", ("heads",), ("head_roles", "compressed"), _HEADS.split(), on_demand=True)
MODELS = Axis("models", ("compare_models",), ("universal",), _MODELS.split(), on_demand=True)
AXES = {axis.name: axis for axis in (MEANING, WEIGHTS, HEADS, MODELS)}


def headlines(axis: Axis, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The headline figures that were measured, by dotted key; a few of them where a * stands for many."""
    figures, found = flat(metrics), {}
    for pattern in axis.headlines:
        names = matching(figures, pattern)
        if len(names) > SPREAD:
            names = [names[round(i * (len(names) - 1) / (SPREAD - 1))] for i in range(SPREAD)]
        found.update({name: figures[name] for name in names})
    return found


def flat(part: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in part.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found

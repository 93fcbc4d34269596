"""The two axes, where they meet, and models together: their stages, metrics files, parameters and headline figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Axis:
    """One axis of the analysis.

    Attributes:
        name: its folder under plots/, and the name of its headlines, metrics/<name>.json.
        stages: the stages that it gathers, in order.
        files: the metrics files that their summaries make up.
        parameters: the top-level keys of params.yaml that they depend on.
        headlines: <metrics file>.<key>; * stands for any key. `dvc metrics diff` prints these and no others.
        on_demand: run by a pipeline of its own, <name>/dvc.yaml.
    """

    name: str
    stages: Sequence[str]
    files: Sequence[str]
    parameters: Sequence[str]
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


MEANING = Axis(
    "meaning",
    stages=("extract_activations", "compute_sigma", "fit_g", "controls", "intervene"),
    files=("sigma", "g", "decode", "intervene"),
    parameters=(
        *("quick", "model", "words", "seed", "activations", "sigma", "response", "g", "bootstrap", "nulls"),
        *("decode", "intervene"),
    ),
    headlines=(
        *("sigma.n_words", "sigma.order_tau", "g.reliability.within", "g.reliability.between", "g.reliability.p"),
        *("g.word_correlation_mean", "g.null_correlation_mean", "g.rank.word_correlation_mean"),
        *("g.rank.null_correlation_mean", "g.decomposition_r2_drift_out", "g.alpha", "g.peak_depth", "g.final_drop"),
        *("g.best_model", "decode.gradient_own.auc", "decode.gradient_own.decoded_depth", "intervene.words"),
        *("intervene.onset.value", "intervene.plateau.value", "intervene.control_max"),
    ),
)
WEIGHTS = Axis(
    "weights",
    stages=("pca", "baseline", "reconstruct", "cluster", "rivals"),
    files=("pca", "perplexity", "clusters", "rivals"),
    parameters=(
        *("quick", "model", "corpus", "seed", "wqk", "moments", "pca", "perplexity", "reconstruct"),
        *("cluster", "rivals"),
    ),
    headlines=(
        *("pca.components_for_variance.90", "pca.circuit.components_for_variance.90"),
        *("pca.explained_variance_ratio.1", "perplexity.baseline.perplexity", "perplexity.ratio.*"),
        *("perplexity.first_layer_kept.ratio.*", "clusters.ratio.*", "rivals.best"),
        *("rivals.best_bits", "rivals.bits_at_1_05.*"),
    ),
)
# Both axes meet in the heads, which are run on demand (docs/heads.md).
HEADS = Axis(
    "heads",
    stages=("heads",),
    files=("head_roles", "compressed"),
    parameters=(
        *("quick", "model", "corpus", "words", "seed", "activations", "sigma", "bootstrap", "intervene", "wqk"),
        *("moments", "pca", "perplexity", "cluster", "rivals", "heads", "compressed"),
    ),
    headlines=(
        *("head_roles.words", "head_roles.heads.exchange", "head_roles.heads.within_sense"),
        *("head_roles.largest.share", "head_roles.top.share", "head_roles.half", "head_roles.agreement.value"),
        *("head_roles.beside.exchange.low_variance_gram.value", "compressed.models"),
        *("compressed.gap.least_within_5.kept", "compressed.gap.most_beyond_25.kept"),
    ),
    on_demand=True,
)
# Models of one shape, on demand (docs/models-together.md).
MODELS = Axis(
    "models",
    stages=("compare_models",),
    files=("universal",),
    parameters=("quick", "model", "corpus", "seed", "perplexity", "universal"),
    headlines=(
        *("universal.components_90.*", "universal.null_90.*", "universal.untrained_over_trained.*"),
        *("universal.mean_over_mean_and_k.*", "universal.scratch.ratio.mean_and_K.*"),
        *("universal.adapters.ratio.mean_and_K.*", "universal.models.ratio.mean_and_K.*"),
    ),
    on_demand=True,
)
AXES = (MEANING, WEIGHTS, HEADS, MODELS)

# Of a list (K, k, methods) so many entries are headlines, spread over it: `dvc metrics diff` has to fit a screen.
SPREAD = 5


def headlines(axis: Axis, files: Mapping[str, Any]) -> dict[str, Any]:
    """The headline figures that were measured, nested as in their files."""
    found: dict[str, Any] = {}
    for line in axis.headlines:
        for (*path, last), value in _values(files, line.split(".")):
            group = found
            for key in path:
                group = group.setdefault(key, {})
            group[last] = value
    return found


def flat(part: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in part.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def look_up(part: Any, path: str | None) -> Any:
    """The value at a dotted path; None where there is none."""
    return next((value for _, value in _values(part, path.split("."))), None) if path else None


def _values(part: Any, keys: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values that `keys` lead to, each with its own keys; a few of them where a * stands for many."""
    if not keys:
        yield (), part
        return
    names = [name for name in part if keys[0] in ("*", name)] if isinstance(part, Mapping) else []
    if len(names) > SPREAD:
        names = [names[round(i * (len(names) - 1) / (SPREAD - 1))] for i in range(SPREAD)]
    for name in names:
        yield from (((name, *path), value) for path, value in _values(part[name], keys[1:]))

"""The two axes, and where they meet: stages, the metrics files in which what these found stands, headline figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class Axis:
    """One axis of the analysis.

    Attributes:
        name: its folder under plots/, and the name of its headlines, metrics/<name>.json.
        about: the folders under data/ that say what was run.
        stages: stage to where its summary stands, <metrics file> or <metrics file>.<key>.
        headlines: <metrics file>.<key>, in the order of the claims; * stands for any key. This is all that
            `dvc metrics diff` prints.
    """

    name: str
    about: Sequence[str]
    stages: Mapping[str, str]
    headlines: Sequence[str]

    @property
    def stage(self) -> str:
        """The stage that gathers the axis."""
        return f"report_{self.name}"

    @property
    def files(self) -> list[str]:
        """The metrics files of the axis, without its run and its headlines."""
        return list(dict.fromkeys(place.partition(".")[0] for place in self.stages.values()))

    @property
    def run(self) -> str:
        """The metrics file that says of which model, text, words and settings the axis is."""
        return f"{self.name}_run"

    @property
    def claims(self) -> str:
        """The metrics file with the claims about an axis that the report of both does not wait for."""
        return f"{self.name}_claims"


MEANING = Axis(
    name="meaning",
    about=("model",),
    stages={
        "compute_sigma": "sigma",
        "fit_g": "g",
        "nulls": "g",
        "controls": "g",
        "decode": "decode",
        "intervene": "intervene",
        "logit_lens": "logit_lens",
    },
    headlines=(
        "sigma.n_words",
        "sigma.order_tau",
        "sigma.ordered_words",
        "g.word_correlation_mean",
        "g.null_correlation_mean",
        "g.rank.word_correlation_mean",
        "g.rank.null_correlation_mean",
        "g.predicted_correlation_min",
        "g.decomposition_r2",
        "g.decomposition_r2_drift_out",
        "g.null_r2_drift_out",
        "g.alpha",
        "g.peak_depth",
        "g.final_drop",
        "g.best_model",
        "decode.gradient_own.auc",
        "decode.gradient_own.decoded_depth",
        "intervene.words",
        "intervene.half_depth.one_direction",
        "intervene.half_depth.transplant",
        "intervene.control_max",
    ),
)
WEIGHTS = Axis(
    name="weights",
    about=("model", "corpus"),
    stages={
        "pca": "pca",
        "baseline": "perplexity.baseline",
        "reconstruct": "perplexity",
        "cluster": "clusters",
        "rivals": "rivals",
        "locate": "locate",
    },
    headlines=(
        "pca.components_for_variance.90",
        "pca.circuit.components_for_variance.90",
        "pca.explained_variance_ratio.1",
        "perplexity.baseline.perplexity",
        "perplexity.ratio.*",
        "perplexity.first_layer_kept.ratio.*",
        "clusters.ratio.*",
        "rivals.best",
        "rivals.best_bits",
        "rivals.bits_at_1_05.*",
    ),
)
AXES = (MEANING, WEIGHTS)

# Where both meet: not in the default run, and shown where it was run (docs/heads.md).
HEADS = Axis(
    name="heads",
    about=("model", "corpus"),
    stages={"heads": "head_roles", "compressed": "compressed"},
    headlines=(
        "head_roles.words",
        "head_roles.heads.exchange",
        "head_roles.heads.within_sense",
        "head_roles.heads.random",
        "head_roles.strongest.share",
        "head_roles.top.share",
        "head_roles.half",
        "head_roles.agreement.value",
        "head_roles.agreement.null",
        "head_roles.costly",
        "head_roles.beside.exchange.norm_score.value",
        "head_roles.beside.exchange.low_variance_gram.value",
        "head_roles.beside.exchange.low_variance_gram.null_high",
        "head_roles.beside.exchange.low_variance_score.value",
        "head_roles.beside.exchange.cost.value",
        "head_roles.beside.exchange.attention.value",
        "head_roles.beside.exchange.cluster.value",
        "compressed.models",
        "compressed.auc.least_within_5.kept",
        "compressed.gap.least_within_5.kept",
        "compressed.auc.most_beyond_25.kept",
        "compressed.gap.most_beyond_25.kept",
        "compressed.gap.rank",
    ),
)

# Of a list in params.yaml (K, k, methods) so many entries are headlines, spread over it: what `dvc metrics diff` prints
# has to fit a screen, however long the list.
SPREAD = 5


def collect(axis: Axis, summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metrics files of an axis, by name, made of its stages' summaries.

    Raises PermeationError where two stages write one key.
    """
    files: dict[str, dict[str, Any]] = {}
    writers: dict[tuple[str, str], str] = {}
    for stage, place in axis.stages.items():
        for key, value in summaries[stage].items():
            name, _, group = place.partition(".")
            file = files.setdefault(name, {})
            first = writers.setdefault((name, group or key), stage)
            if first != stage:
                raise PermeationError(f"metrics/{name}.json: both {first} and {stage} write {group or key}")
            (file.setdefault(group, {}) if group else file)[key] = value
    return files


def headlines(axis: Axis, files: Mapping[str, Any]) -> dict[str, Any]:
    """The headline figures by metrics file; numbered, for DVC prints keys in alphabetical order."""
    found: dict[str, Any] = {}
    names = list(dict.fromkeys(line.partition(".")[0] for line in axis.headlines))
    for line in axis.headlines:
        name, *keys = line.split(".")
        for path, value in _values(files[name], keys):
            group = found.setdefault(f"{names.index(name) + 1}_{name}", {})
            for key in path[:-1]:
                group = group.setdefault(key, {})
            group[path[-1]] = value
    return found


def _values(part: Any, keys: Sequence[str]) -> list[tuple[tuple[str, ...], Any]]:
    """What `keys` lead to, with the keys that they stand for; nothing where it was not measured."""
    if not keys:
        return [((), part)]
    if part is None:
        return []
    first, *rest = keys
    names = [name for name in part if first in ("*", name)]
    if len(names) > SPREAD:
        names = [names[round(i * (len(names) - 1) / (SPREAD - 1))] for i in range(SPREAD)]
    return [((name, *path), value) for name in names for path, value in _values(part[name], rest)]

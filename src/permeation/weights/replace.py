"""One way to measure a changed model: jobs in, a measured row for each out.

A job says how to make the changed weights; the scorer holds the model, the windows and the untouched model's NLL. Each
row keeps its NLL per window, so that any interval can be computed again, and any two rows compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.engine import Engine, ModelRun
from permeation.frame.journal import Journal
from permeation.frame.tables import write_json
from permeation.models.load import load_folded
from permeation.perplexity.ratio import Baseline
from permeation.weights.inject import GramInjection, injected

# Which layers' heads are replaced, and how many layers in front keep their own. Always report both: layer 0 alone can
# dominate, where W_K is ill-conditioned because its norm has small scales.
ALL, ALL_BUT_FIRST = "all layers", "all layers but the first"
REPLACED = {ALL: 0, ALL_BUT_FIRST: 1}
NUMBERS = ("ratio", "low", "high", "tokens", "windows")  # what a row says of its measurement


@dataclass(frozen=True)
class Change:
    """Weights that take the place of the model's own.

    Attributes:
        weights: W_Q, W_K, b_Q, b_K as `injected` takes them. facts: more columns, known without running the model.
    """

    weights: Mapping[str, Tensor]
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A changed model to be measured.

    Attributes:
        key: tells it from the stage's other jobs, in its row and in the journal.
        change: makes the change, when its turn comes. None: the model does not allow it, and its numbers are None.
        columns: what else its row says. windows: take exactly the first so many; None: as many as settle the ratio.
    """

    key: Mapping[str, Any]
    change: Callable[[], Change] | None
    columns: Mapping[str, Any] = field(default_factory=dict)
    windows: int | None = None

    @property
    def entry(self) -> dict[str, Any]:
        """Its key in the journal."""
        return {**self.key, "windows": self.windows}


@dataclass(frozen=True)
class Measured:
    """A line of a stage's table.

    Attributes:
        row: columns, key, ratio, low, high, tokens, windows, facts. nll: Σ NLL in nats of each window it took.
    """

    row: dict[str, Any]
    nll: Float[np.ndarray, "scored"]


@dataclass(frozen=True)
class Scorer(ModelRun):
    """Measures a changed model: what all jobs of a stage share.

    Attributes:
        baseline: windows, and the untouched model's NLL. tolerance, batch_size: as in params.yaml's `perplexity`.
    """

    baseline: Baseline
    tolerance: float | None
    batch_size: int | Literal["auto"]

    @classmethod
    def load(
        cls,
        model: Path,
        baseline: Path,
        device: torch.device,
        dtype: str,
        tolerance: float | None,
        batch_size: int | Literal["auto"],
        fold_norm: bool = True,
    ) -> Scorer:
        """The checkpoint in the folder `model`, against what the stage `baseline` wrote."""
        return cls(partial(_read, model, fold_norm, device, dtype), Baseline.read(baseline), tolerance, batch_size)

    def __call__(self, task: tuple[Change, int | None]) -> dict[str, Any]:
        """The model's NLL per window with the change in place, and the change's facts, as the journal keeps them."""
        change, windows = task
        with injected(self.model, **change.weights):
            if windows is None:
                nll = self.baseline.score(self.model, self.tolerance, self.batch_size)
            else:
                nll = self.baseline.first(windows).score(self.model, None, self.batch_size)
        return {"nll": nll.tolist(), "facts": dict(change.facts)}


def _read(model: Path, fold_norm: bool, device: torch.device, dtype: str) -> Any:
    return load_folded(model, fold_norm, device).to(getattr(torch, dtype))


def measure(jobs: Iterable[Job], scorer: Scorer, journal: Journal, engine: Engine) -> Iterator[Measured]:
    """Measure every job, or recall it from the journal, in their order.

    A change is made when an engine asks for it, and dropped when it is measured: weights are large.
    """
    jobs = list(jobs)
    new = {str(job.entry): job for job in jobs if job.change and journal.recall(job.entry) is None}
    results = engine.map(scorer, ((job.change(), job.windows) for job in new.values() if job.change))
    for job in jobs:
        row, nll, facts = {**job.columns, **job.key, **dict.fromkeys(NUMBERS)}, np.empty(0), {}
        if job.change is not None:
            kept = journal.recall(job.entry)
            kept = journal.keep(job.entry, next(results)) if kept is None else kept
            nll, facts = np.array(kept["nll"]), kept["facts"]
            found = scorer.baseline.ratio(nll)
            row |= zip(NUMBERS, (found.value, found.low, found.high, found.tokens, found.windows), strict=True)
        yield Measured(row | facts, nll)


def write_measured(folder: Path, measured: Sequence[Measured], baseline: Baseline) -> None:
    """Write rows.json; nll.npy (rows + 1, windows): Σ NLL in nats, the untouched model's first, NaN where not scored.

    With s scored tokens a window, exp(nanmean(nll[1 + i] − nll[0]) / s) is the ratio of row i, and
    nll[1 + i] − nll[1 + j] compares two rows, window by window.
    """
    nll = np.full((len(measured) + 1, baseline.nll.size), np.nan)
    for line, scored in zip(nll, (baseline.nll, *(each.nll for each in measured)), strict=True):
        line[: len(scored)] = scored
    np.save(folder / "nll.npy", nll)
    write_json(folder / "rows.json", [each.row for each in measured])


def mixing_job(
    key: Mapping[str, Any],
    injection: GramInjection,
    mixing: Callable[[], Float[Tensor, "n n"]] | None,
    layers: range,
    columns: Mapping[str, Any] | None = None,
    windows: int | None = None,
) -> Job:
    """The gram form of every head in these layers replaced by a mixture of the heads' own, M̂ = R M.

    Its fact is `change_max`, the largest |ΔW_Q| / |W_Q| over all heads. `mixing` None: as in Job.
    """
    per_layer = injection.heads.W_Q.shape[1]
    replaced = slice(layers.start * per_layer, layers.stop * per_layer)

    def change(mixing: Callable[[], Tensor]) -> Change:
        R = mixing()
        only = torch.eye(len(R), dtype=R.dtype)
        only[replaced] = R[replaced]
        W_Q = injection.mixed(only)
        return Change({"W_Q": W_Q.float()}, {"change_max": float(injection.relative_change(W_Q).max())})

    return Job(key, mixing and partial(change, mixing), columns or {}, windows)


def ratio_tables(rows: Sequence[Mapping[str, Any]], key: str, main: str = ALL) -> dict[str, Any]:
    """Rows as the metrics files hold them: ratio.<key>, ratio_low.<key>, ratio_high.<key>.

    Rows replaced as `main` says stand at the top; those with all layers but the first under first_layer_kept.
    """
    top, others = (
        {
            metric: {str(row[key]): row[column] for row in rows if row["replaced"] == replaced}
            for metric, column in (("ratio", "ratio"), ("ratio_low", "low"), ("ratio_high", "high"))
        }
        for replaced in (main, ALL_BUT_FIRST)
    )
    return {**top, "first_layer_kept": others}

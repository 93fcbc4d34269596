"""What it costs a model to have its heads' weights replaced: one loop for every stage that asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from permeation.frame.engine import Engine, Local, ModelRun
from permeation.frame.journal import Journal
from permeation.frame.tables import write_json
from permeation.models.load import load_folded
from permeation.perplexity.divergence import Divergence, Reference, references
from permeation.perplexity.fast import prepare_for_scoring, untouched_before
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.settings import Perplexity
from permeation.weights.inject import GramInjection, injected

# In which layers heads are replaced, and how many of the first layers keep their own. Where a norm is folded in whose
# scale is small, W_K of the first layer is ill-conditioned, and what the injection does to W_Q there can hide all the
# rest: what is said of ALL is worth most beside what is said of ALL_BUT_FIRST.
ALL, ALL_BUT_FIRST = "all layers", "all layers but the first"
REPLACED = {ALL: 0, ALL_BUT_FIRST: 1}
# What a row says of its measurement.
COLUMNS = ("ratio", "low", "high", "tokens", "windows")


@dataclass(frozen=True)
class Change:
    """Weights that take the place of the model's own.

    Attributes:
        weights: W_Q, W_K, b_Q, b_K as `injected` takes them. facts: what is known of the change without running it.
    """

    weights: Mapping[str, Tensor]
    facts: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A changed model to be measured.

    Attributes:
        key: tells it from the stage's other jobs; it heads its row, and the journal knows it by that.
        change: makes the change; called only where the journal does not know the job.
        first_layer: the first layer that changes. The blocks in front of it are not run again.
        columns: what else its row says.
    """

    key: Mapping[str, Any]
    change: Callable[[], Change]
    first_layer: int = 0
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unmeasured:
    """A row of a stage's table that cannot be measured. columns: what it says. note: why it is not measured."""

    columns: Mapping[str, Any]
    note: str


@dataclass(frozen=True)
class Measured:
    """A line of a stage's table.

    Attributes:
        row: the job's columns and key, ratio, low, high, tokens, windows, the facts of its change; `note` says why
            where it was not measured, and then the others are None.
        nll: Σ NLL in nats of each window that it took.
        kl, agreeing: as of perplexity.divergence, of the first windows; empty where they were not asked for.
    """

    row: dict[str, Any]
    nll: Float[np.ndarray, "scored"]
    kl: Float[np.ndarray, "compared"] = field(default_factory=lambda: np.empty(0))
    agreeing: Float[np.ndarray, "compared"] = field(default_factory=lambda: np.empty(0))

    @property
    def there(self) -> bool:
        """Whether it was measured."""
        return self.nll.size > 0


@dataclass(frozen=True)
class Task:
    """What a changed model is measured from: its weights, the first layer that changes, the windows.

    Attributes:
        windows: measured on exactly so many, the first; None: on as many as make the ratio precise enough.
    """

    weights: Mapping[str, Tensor]
    first_layer: int
    windows: int | None


@dataclass(frozen=True)
class Score:
    """What a changed model did.

    Attributes:
        nll, kl, agreeing: as of `Measured`, as lists.
    """

    nll: list[float]
    kl: list[float]
    agreeing: list[int]


@dataclass(frozen=True)
class Scorer(ModelRun):
    """What all changed models of a stage share; `read` gives the model prepared for scoring.

    Attributes:
        baseline: windows and NLL of the untouched model. settings: when a comparison is precise enough.
        compared: on how many of the first windows the distributions are compared, too.
    """

    baseline: Baseline
    settings: Perplexity
    compared: int = 0

    @cached_property
    def _references(self) -> list[Reference]:
        return references(self.model, self.baseline.windows.tokens[: self.compared])

    @cached_property
    def _streams(self) -> dict[bytes, tuple[int, Tensor]]:
        return {}

    def __call__(self, task: Task, progress: Callable[[int], object]) -> Score:
        """Score the model with these weights in place of its own."""
        baseline, settings = self.baseline, self.settings
        if task.windows is not None:
            baseline, settings = baseline.first(task.windows), replace(settings, tolerance=None)
        before = untouched_before(self.model, task.first_layer, self._streams) if task.first_layer else nullcontext()
        beside = Divergence(self._references, self.model) if self.compared else None
        with injected(self.model, **task.weights), before:
            nll = baseline.score(self.model, settings, progress, beside)
        return Score(nll.tolist(), *(([], []) if beside is None else (beside.kl, beside.agreeing)))


@dataclass(frozen=True)
class Context:
    """What all jobs of a stage are measured with.

    Attributes:
        scorer: measures one. journal: what was measured before. windows: as in Task.
    """

    scorer: Scorer
    journal: Journal
    windows: int | None = None

    @classmethod
    def read(
        cls,
        model: Path,
        baseline: Path,
        fold_norm: bool,
        device: Any,
        settings: Perplexity,
        journal: Journal,
        compared: int = 0,
    ) -> Context:
        """The fetched model, prepared for scoring, beside what the stage `baseline` wrote; `compared`: as of Scorer."""
        untouched = Baseline.read(baseline)
        ready = partial(_ready, model, fold_norm, device, settings.dtype, untouched.windows.tokens.shape[1])
        return cls(Scorer(ready, untouched, settings, compared, folders=(model,)), journal)

    @property
    def baseline(self) -> Baseline:
        """The windows that jobs are measured on, and the untouched model's NLL."""
        return self.scorer.baseline if self.windows is None else self.scorer.baseline.first(self.windows)

    def first(self, windows: int) -> Context:
        """For jobs that are all measured on the first so many windows."""
        return replace(self, windows=windows)

    def entry(self, job: Job) -> dict[str, Any]:
        """Under what the journal keeps a job: its key, and how many windows where that is given."""
        return dict(job.key) if self.windows is None else {**job.key, "windows": self.windows}

    @property
    def tokens_per_job(self) -> int:
        """The tokens that go through the model for a job that nothing stops early."""
        return self.baseline.windows.tokens.numel()


def _ready(model: Path, fold_norm: bool, device: Any, dtype: str, context: int) -> Any:
    return prepare_for_scoring(load_folded(model, fold_norm, device), dtype, context)


def measure_all(
    jobs: Iterable[Job | Unmeasured],
    context: Context,
    progress: Callable[[int], object],
    engine: Engine | None = None,
) -> Iterator[Measured]:
    """Measure every job, or recall it from the journal, in their order.

    `progress` is told `tokens_per_job` in all for each job, batch by batch as far as it is measured in this process.
    engine: what measures them; by default this process.
    """
    drawn: deque[Measured | _Pending] = deque()
    told = 0

    def tell(tokens: int) -> None:
        nonlocal told
        told += tokens
        progress(tokens)

    def measured(key: Mapping[str, Any], columns: Mapping[str, Any], kept: dict[str, Any]) -> Measured:
        nonlocal told
        progress(context.tokens_per_job - told)
        told = 0
        nll, kl, agreeing = (np.array(kept[name], dtype=float) for name in ("nll", "kl", "agreeing"))
        found = asdict(context.baseline.ratio(nll))
        row = {column: found["value" if column == "ratio" else column] for column in COLUMNS}
        if context.scorer.compared:
            for name, sums in (("kl", kl), ("agreement", agreeing)):
                row |= context.baseline.mean_per_token(name, sums)
        return Measured({**columns, **key, **row, **kept["facts"], "note": None}, nll, kl, agreeing)

    def begun(job: Job) -> tuple[str, Task]:
        change = job.change()
        drawn.append(_Pending(job.key, job.columns, change.facts, context.entry(job)))
        return str(dict(job.key)), Task(change.weights, job.first_layer, context.windows)

    def tasks() -> Iterator[tuple[str, Task]]:
        for job in jobs:
            if isinstance(job, Unmeasured):
                drawn.append(Measured({**job.columns, **dict.fromkeys(COLUMNS), "note": job.note}, np.empty(0)))
            elif (kept := context.journal.recall(context.entry(job))) is not None:
                drawn.append(measured(job.key, job.columns, kept))
            else:
                yield begun(job)
            del job  # what it makes its change of is large, and so is what the next one makes its own of

    for score in (engine or Local()).map(context.scorer, tasks(), tell):
        while isinstance(first := drawn.popleft(), Measured):
            yield first
        kept = context.journal.keep(first.entry, {**asdict(score), "facts": dict(first.facts)})
        yield measured(first.key, first.columns, kept)
    for rest in drawn:
        assert isinstance(rest, Measured)
        yield rest


@dataclass(frozen=True)
class _Pending:
    """What is known of a job whose NLL is still to come; the job itself may hold much."""

    key: Mapping[str, Any]
    columns: Mapping[str, Any]
    facts: Mapping[str, float | None]
    entry: Mapping[str, Any]


def write_measured(folder: Path, measured: Sequence[Measured], baseline: Baseline) -> None:
    """Write rows.json; nll.npy (rows + 1, windows): Σ NLL in nats, the untouched model's first, NaN where not scored.

    With s scored tokens a window, exp(nanmean(nll[1 + i] − nll[0]) / s) is the ratio of row i, and
    nll[1 + i] − nll[1 + j] compares two rows, window by window. Where distributions were compared, kl.npy and
    agreeing.npy (rows, windows) hold the sums of each window.
    """
    nll = np.full((len(measured) + 1, baseline.nll.size), np.nan)
    for line, scored in zip(nll, (baseline.nll, *(each.nll for each in measured)), strict=True):
        line[: len(scored)] = scored
    np.save(folder / "nll.npy", nll)
    for name in ("kl", "agreeing"):
        if most := max((len(getattr(each, name)) for each in measured), default=0):
            sums = np.full((len(measured), most), np.nan)
            for line, each in zip(sums, measured, strict=True):
                line[: len(getattr(each, name))] = getattr(each, name)
            np.save(folder / f"{name}.npy", sums)
    write_json(folder / "rows.json", [each.row for each in measured])


def mixing_job(
    key: Mapping[str, Any],
    injection: GramInjection,
    mixing: Callable[[], Float[Tensor, "n n"]],
    layers: range,
    columns: Mapping[str, Any] | None = None,
) -> Job:
    """The gram form of every head in these layers replaced by a mixture of the heads' own, M̂ = R M.

    Its facts are `change_median` and `change_max` of |ΔW_Q| / |W_Q| over all heads.
    """
    per_layer = injection.heads.W_Q.shape[1]
    replaced = slice(layers.start * per_layer, layers.stop * per_layer)

    def change() -> Change:
        R = mixing()
        only = torch.eye(len(R), dtype=R.dtype)
        only[replaced] = R[replaced]
        W_Q = injection.mixed(only)
        size = injection.relative_change(W_Q)
        return Change({"W_Q": W_Q.float()}, {"change_median": float(size.median()), "change_max": float(size.max())})

    return Job(key, change, layers.start, columns or {})


def ratio_tables(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Rows as the metrics files hold them: ratio.<key>, ratio_low.<key>, ratio_high.<key>.

    Of the rows with all layers replaced; those with all but the first stand under first_layer_kept. None where a row
    was not measured.
    """
    every, others = (
        {
            metric: {row[key]: row[column] for row in rows if row["replaced"] == replaced}
            for metric, column in (("ratio", "ratio"), ("ratio_low", "low"), ("ratio_high", "high"))
        }
        for replaced in REPLACED
    )
    return {**every, "first_layer_kept": others}

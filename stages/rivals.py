"""Store all W_Q and W_K in less by each method, read them back, and measure what the model loses."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.rivals.base import BITS_PER_NUMBER, Problem, Rival, original_parameters, sizes_near
from permeation.rivals.form_error import RelativeErrors
from permeation.rivals.frontier import (
    FORM,
    Law,
    beaten,
    on_frontier,
    pairs,
    summary,
)
from permeation.rivals.registry import METHODS
from permeation.weights.heads import Heads
from permeation.weights.replace import Change, Context, Job, Measured, Unmeasured, measure_all, write_measured
from stages import Stage, run

LEFT_OUT = "left out: one in no more bits loses far less than is foretold for it"
FRONTIER = ("method", "size", "bits", "ratio", "low", "high", "kl", "agreement", "tokens", "windows")


def main(stage: Stage) -> None:
    """Write data/rivals/: rows.json, nll.npy and kl.npy, by method and size, with what each stores and errs; plots/."""
    settings, config = stage.config.rivals, stage.config
    inputs = {name: stage.input(name) for name in ("model", "baseline", "extract_wqk", "moments")}
    problem = Problem.read(inputs["model"], inputs["extract_wqk"], inputs["moments"], config.seed)
    errors = RelativeErrors.fit(problem.heads, problem.moments)
    original = original_parameters(problem.heads)

    def jobs(methods: Sequence[str], law: Law, rows: Sequence[dict[str, Any]]) -> Iterator[Job | Unmeasured]:
        for method in methods:
            yield from jobs_of(method, law, rows)  # all that one holds is gone before the next one is fitted

    def jobs_of(method: str, law: Law, rows: Sequence[dict[str, Any]]) -> Iterator[Job | Unmeasured]:
        rival, refusal = fitted(method, problem)
        if rival is None:
            yield Unmeasured({"method": method, "size": None, "bits": None, "foretold": None}, refusal or "")
            return
        sizes = sizes_near(rival, [bits * original for bits in settings.bits])
        for size in sizes:
            columns: dict[str, Any] = {"bits": rival.stored_bits(size) / original, "foretold": None}
            found = cache(partial(read_back, rival, size))
            if law.c is not None and law.spread is not None:
                columns["foretold"] = law.ratio(found()[1][FORM])
                out_of_question = settings.leave_out is not None and beaten(
                    columns["bits"], columns["foretold"], rows, max(settings.leave_out, law.spread)
                )
                if out_of_question and size < sizes[-1]:
                    yield Unmeasured({"method": method, "size": size, **columns}, LEFT_OUT)
                    continue
            yield Job({"method": method, "size": size}, partial(change, found), columns=columns)

    def read_back(rival: Rival, size: int) -> tuple[Heads, dict[str, float]]:
        """The weights at this size as the model is given them, and their errors by form."""
        heads = rival.apply(size).to(torch.float32)
        return heads, errors.of(heads)

    def change(found: Callable[[], tuple[Heads, dict[str, float]]]) -> Change:
        heads, by_form = found()
        return Change(heads.tensors(), {f"error_{form}": error for form, error in by_form.items()})

    journal = stage.journal(*inputs.values(), settings=(config.wqk, config.perplexity, config.seed, settings.compared))
    context = Context.read(
        inputs["model"],
        inputs["baseline"],
        config.wqk.fold_norm,
        stage.device,
        config.perplexity,
        journal,
        settings.compared,
    )
    total = len(settings.methods) * len(settings.bits) * context.tokens_per_job
    with progress.bar(total, "rivals", "tok") as bar, stage.engine() as engine:

        def measure(methods: Sequence[str], law: Law, rows: Sequence[dict[str, Any]] = ()) -> list[Measured]:
            return list(measure_all(jobs(methods, law, rows), context, bar.update, engine))

        calibrating = [method for method in settings.calibrate if method in settings.methods]
        first = measure(calibrating, Law())
        known = [each.row for each in first if each.there]
        law = Law.fit(known)
        others = measure([method for method in settings.methods if method not in calibrating], law, known)

    measured, runs = first + others, [each for each in (*first, *others) if each.there]
    rows = [run.row for run in runs]
    with stage.output() as out:
        write_measured(out, measured, context.baseline)
        strong = on_frontier(rows)
        chart = ({**{key: row[key] for key in FRONTIER}, "frontier": on} for row, on in zip(rows, strong, strict=True))
        write_rows(out / "plots" / "pareto.json", chart)
        write_rows(out / "plots" / "pairs.json", pairs(runs, settings.bits, context.baseline))
        found = summary(measured, law, [other.row for other in others], context.baseline, config.seed)
        whole = read_json(inputs["model"] / "model.json")["n_parameters"]
        sizes = {"original_bits": BITS_PER_NUMBER * original, "share_of_model": original / whole}
        write_json(out / "summary.json", {**found, **sizes})


def fitted(method: str, problem: Problem) -> tuple[Rival | None, str | None]:
    """The fitted rival, or why this model does not allow it."""
    try:
        return METHODS[method].fit(problem), None
    except PermeationError as refusal:
        return None, str(refusal)


if __name__ == "__main__":
    run(main)

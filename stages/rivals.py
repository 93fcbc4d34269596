"""Store all W_Q and W_K in less by each method, read them back, and measure the perplexity at equal storage."""

from collections.abc import Iterator
from functools import partial

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.rivals.base import BYTES_PER_NUMBER, Problem, Rival, original_parameters, sizes_within, stored
from permeation.rivals.form_error import RelativeErrors
from permeation.rivals.pareto import half_width_near_kept, proxies, smallest_shares
from permeation.rivals.registry import METHODS
from permeation.weights.heads import Heads
from permeation.weights.moments import Moments
from permeation.weights.replace import Change, Context, Job, Unmeasured, measure_all, write_measured
from stages import Stage, run

PARETO = ("method", "share", "stored_share", "stored_bytes", "ratio", "low", "high", "tokens", "windows")


def main(stage: Stage) -> None:
    """Write data/rivals/: rows.json and nll.npy, by method and share, with what each stores and errs; plots/."""
    settings, config = stage.config.rivals, stage.config
    inputs = {name: stage.input(name) for name in ("model", "baseline", "extract_wqk", "moments")}
    heads = Heads.read(inputs["extract_wqk"]).double()
    rotary = read_json(inputs["model"] / "model.json")["rotary"]
    problem = Problem(heads, Moments.read(inputs["moments"]), rotary, config.seed)
    errors = RelativeErrors.fit(heads, problem.moments)
    original = BYTES_PER_NUMBER * original_parameters(heads)

    def jobs() -> Iterator[Job | Unmeasured]:
        for method in settings.methods:
            rival, refusal = fitted(method, problem)  # gone before the next one is fitted: they are large
            for share, size in sizes_within(rival, settings.shares, original):
                columns = {"share": share, **stored(rival, size, original)}
                if rival is None or size is None:
                    yield Unmeasured({"method": method, "size": None, **columns}, refusal or "does not fit")
                else:
                    yield Job({"method": method, "size": size}, partial(change, rival, size), columns=columns)

    def change(rival: Rival, size: int) -> Change:
        changed = rival.apply(size)
        return Change(changed.tensors(), {f"error_{form}": error for form, error in errors.of(changed).items()})

    journal = stage.journal(*inputs.values(), settings=(config.wqk, config.perplexity, config.seed))
    model, baseline = inputs["model"], inputs["baseline"]
    context = Context.read(model, baseline, config.wqk.fold_norm, stage.device, config.perplexity, journal)
    total = len(settings.methods) * len(settings.shares) * context.tokens_per_job
    with progress.bar(total, "rivals", "tok") as bar, stage.engine() as engine:
        measured = list(measure_all(jobs(), context, bar.update, engine))

    rows, runs = [each.row for each in measured], [each.row for each in measured if each.there]
    with stage.output() as out:
        write_measured(out, measured, context.baseline)
        write_rows(out / "plots" / "pareto.json", ({key: row[key] for key in PARETO} for row in runs))
        summary = {
            "original_bytes": original,
            "half_width_near_1_05": half_width_near_kept(runs),
            "smallest_share_at_1_05": smallest_shares(rows),
            "proxy": proxies(runs),
        }
        write_json(out / "summary.json", summary)


def fitted(method: str, problem: Problem) -> tuple[Rival | None, str | None]:
    """The fitted rival, or why this model does not allow it."""
    try:
        return METHODS[method].fit(problem), None
    except PermeationError as refusal:
        return None, str(refusal)


if __name__ == "__main__":
    run(main)

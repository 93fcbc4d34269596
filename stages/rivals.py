"""Store W_Q and W_K, or all of attention, in fewer bits by each method, and measure what the model loses."""

from functools import partial

import torch

from permeation.frame import progress
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_results
from permeation.rivals.base import BITS_PER_NUMBER, Problem, Rival, original_parameters
from permeation.rivals.frontier import measure_method, pareto, summary
from permeation.rivals.registry import METHODS
from permeation.stage import Stage
from permeation.weights.replace import Change, Job, Measured, Scorer, measure, write_measured


def main(stage: Stage) -> None:
    """Write data/rivals/: rows.json and nll.npy by method and size, summary.json, plots/pareto.json."""
    config, asked = stage.config, stage.config.perplexity
    inputs = {name: stage.input(name) for name in ("model", "baseline", "extract_wqk", "moments")}
    problem = Problem.read(inputs["extract_wqk"], inputs["moments"], config.seed, config.rivals.whole)
    original, scoring = original_parameters(problem.heads), (asked.dtype, asked.tolerance, asked.batch_size)
    scorer = Scorer.load(inputs["model"], inputs["baseline"], stage.device, *scoring)
    journal = stage.journal(*inputs.values(), settings=(asked, config.seed))

    def change(rival: Rival, size: int) -> Change:
        return Change(rival.apply(size).to(torch.float32).tensors())

    with stage.engine() as engine:

        def measured(method: str) -> list[Measured]:
            """The rows of one method; its rival is gone before the next one is fitted."""

            def job(size: int) -> Job:
                bits = {"bits": rival.stored_bits(size) / original}
                return Job({"method": method, "size": size}, partial(change, rival, size), bits)

            try:
                rival = METHODS[method].fit(problem)
            except PermeationError as refusal:
                refused = Job({"method": method, "size": None}, None, {"bits": None, "note": str(refusal)})
                return list(measure([refused], scorer, journal, engine))
            budgets = [bits * original for bits in config.rivals.bits]
            return measure_method(rival, budgets, lambda sizes: list(measure(map(job, sizes), scorer, journal, engine)))

        methods = config.rivals.methods
        runs = [each for method in progress.each(methods, "rivals", len(methods)) for each in measured(method)]

    rows, model = [each.row for each in runs], read_json(inputs["model"] / "model.json")
    untouched, own_file = scorer.baseline.perplexity, None if config.rivals.whole else model["attention_bits"]
    with stage.output() as out:
        write_measured(out, runs, scorer.baseline)
        sizes = {"original_bits": BITS_PER_NUMBER * original, "share_of_model": original / model["n_parameters"]}
        points = pareto(rows, own_file, untouched.tokens, untouched.windows)
        write_results(out, {"rivals": summary(rows) | {"own_file_bits": own_file} | sizes}, {"pareto": points})

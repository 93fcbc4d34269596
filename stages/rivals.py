"""Store all W_Q and W_K in less by each method, read them back, and measure the perplexity at equal storage."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from permeation import model as models
from permeation import perplexity
from permeation.calibration import held_out_comparison
from permeation.errors import PermeationError
from permeation.files import read_json, write_json, write_rows
from permeation.scoring import ready
from permeation.stage import Stage, run
from permeation.weights.error import relative_errors
from permeation.weights.heads import Heads, read_heads
from permeation.weights.inject import injected
from permeation.weights.moments import Moments
from permeation.weights.rivals.base import BYTES_PER_NUMBER, Problem, Rival, original_parameters, size_within
from permeation.weights.rivals.methods import METHODS
from permeation.weights.rivals.pareto import METRICS, half_width_near_bearable, proxies, smallest_shares

PARETO = ("method", "share", "stored_share", "stored_bytes", "ratio", "low", "high")


def main(stage: Stage) -> None:
    """Write data/rivals/: rows.json, one row per method and share with what it stores, costs and errs; plots/."""
    settings, folder, config = stage.config.rivals, stage.input("model"), stage.config
    model = models.load_for_injection(folder, config.wqk.fold_norm, stage.device)
    text = (stage.input("corpus") / "corpus.txt").read_text(encoding="utf-8")
    tokens = perplexity.tokenize(models.load_tokenizer(folder), text)
    calibration = torch.from_numpy(np.load(stage.input("moments") / "positions.npy"))
    moments = Moments.from_tensors(load_file(stage.input("moments") / "moments.safetensors"))
    own = read_heads(model)
    heads = Heads(**{name: tensor.double().cpu() for name, tensor in own.tensors().items()})
    problem = Problem(heads, moments, models.geometry(model).rotary, config.seed)
    dtype = read_json(stage.input("baseline") / "summary.json")["dtype"]
    model = ready(model, dtype, config.perplexity.context)
    journal = stage.journal(
        *(stage.input(name) for name in ("model", "corpus", "moments", "baseline")),
        settings=(config.wqk, config.perplexity, config.seed, settings.max_tokens),
    )
    original = BYTES_PER_NUMBER * original_parameters(heads)

    rows: list[dict[str, Any]] = []
    with tqdm(desc="rivals", unit="tok", unit_scale=True, disable=None) as bar:
        comparison = held_out_comparison(
            model, tokens, calibration, config.perplexity, settings.max_tokens, dtype, bar.update
        )

        def measure(rival: Rival, size: int, progress: Callable[[int], object]) -> dict[str, Any]:
            changed = rival.apply(size)
            with injected(model, **changed.tensors()):
                ratio = comparison.ratio(model, progress)
            errors = relative_errors(heads, changed, moments)
            return {**asdict(ratio), **{f"error_{metric}": errors[metric] for metric in METRICS}}

        for method in settings.methods:
            rival, refusal = fitted(method, problem)
            done: set[int] = set()
            for share in settings.shares:
                size = None if rival is None else size_within(rival, int(share * original))
                # What has a larger share but no larger size is the same run.
                if size in done:
                    continue
                row: dict[str, Any] = {"method": method, "share": share, "note": refusal}
                if rival is None or size is None:
                    row["note"] = row["note"] or "does not fit"
                    absent = dict.fromkeys(("ratio", "low", "high", *(f"error_{metric}" for metric in METRICS)))
                    stored = dict.fromkeys(("size", "stored_parameters", "stored_bytes", "stored_share"))
                    rows.append({**row, **stored, **absent})
                    continue
                done.add(size)
                stored_bytes = rival.stored_bytes(size)
                row |= {
                    "size": size,
                    "stored_parameters": rival.stored_parameters(size),
                    "stored_bytes": stored_bytes,
                    "stored_share": stored_bytes / original,
                }
                measured = journal.remember(partial(measure, rival, size, bar.update), {"method": method, "size": size})
                rows.append({**row, **measured})

    runs = [row for row in rows if row["ratio"] is not None]
    with stage.output() as out:
        write_json(out / "rows.json", rows)
        write_rows(out / "plots" / "pareto.json", ({key: row[key] for key in PARETO} for row in runs))
        summary = {
            "tokens": comparison.windows.numel() - len(comparison.windows),
            "windows": len(comparison.windows),
            "original_bytes": original,
            "half_width_near_1_05": half_width_near_bearable(runs),
            "smallest_share_at_1_05": smallest_shares(rows),
            "proxy": proxies(runs),
        }
        write_json(out / "summary.json", summary)


def fitted(method: str, problem: Problem) -> tuple[Rival | None, str | None]:
    """The fitted rival, or why this model does not allow it."""
    try:
        return METHODS[method](problem), None
    except PermeationError as refusal:
        return None, str(refusal)


if __name__ == "__main__":
    run(main)

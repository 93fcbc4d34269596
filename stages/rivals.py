"""Store all W_Q and W_K in less by each method, read them back, and measure the perplexity at equal storage."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.models.families import geometry_of
from permeation.models.load import load_folded
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Text
from permeation.rivals.base import BYTES_PER_NUMBER, Problem, Rival, original_parameters, size_within
from permeation.rivals.form_error import RelativeErrors
from permeation.rivals.pareto import half_width_near_bearable, proxies, smallest_shares
from permeation.rivals.registry import METHODS
from permeation.weights.forms import FORMS
from permeation.weights.heads import Heads, read_heads
from permeation.weights.inject import injected
from permeation.weights.moments import Moments
from stages import Stage, run

PARETO = ("method", "share", "stored_share", "stored_bytes", "ratio", "low", "high", "tokens")
STORED = ("size", "stored_parameters", "stored_bytes", "stored_share")
MEASURED = ("ratio", "low", "high", "tokens", *(f"error_{metric}" for metric in FORMS))


def main(stage: Stage) -> None:
    """Write data/rivals/: rows.json, one row per method and share with what it stores, costs and errs; plots/."""
    settings, folder, config = stage.config.rivals, stage.input("model"), stage.config
    model = load_folded(folder, config.wqk.fold_norm, stage.device)
    text = Text.from_tensors(load_file(stage.input("tokenize_corpus") / "text.safetensors"))
    calibration = torch.from_numpy(np.load(stage.input("moments") / "positions.npy"))
    moments = Moments.from_tensors(load_file(stage.input("moments") / "moments.safetensors"))
    heads = Heads(**{name: tensor.double() for name, tensor in read_heads(model).tensors().items()})
    problem = Problem(heads, moments, geometry_of(model).rotary, config.seed)
    dtype = read_json(stage.input("baseline") / "summary.json")["dtype"]
    scored = replace(config.perplexity, max_tokens=settings.max_tokens, dtype=dtype)
    model = prepare_for_scoring(model, dtype, scored.context)
    windows = text.held_out(calibration, scored.context, scored.max_tokens)
    journal = stage.journal(
        *(stage.input(name) for name in ("model", "tokenize_corpus", "moments")),
        settings=(config.wqk, scored, config.seed),
    )
    errors = RelativeErrors.fit(heads, moments)
    original = BYTES_PER_NUMBER * original_parameters(heads)

    with tqdm(desc="rivals", unit="tok", unit_scale=True, disable=None) as bar:
        comparison = Baseline.measure(
            model, windows, scored, stage.journal(folder, settings=(config.wqk, dtype), of="baseline"), bar.update
        )

        def measure(rival: Rival, size: int) -> dict[str, Any]:
            changed = rival.apply(size)
            with injected(model, **changed.tensors()):
                ratio = comparison.ratio(model, bar.update)
            return asdict(ratio) | {f"error_{form}": error for form, error in errors.of(changed).items()}

        def rows_of(method: str) -> Iterator[dict[str, Any]]:
            rival, refusal = fitted(method, problem)  # gone before the next one is fitted: they are large
            for share, size in sizes(rival, settings.shares, original):
                row = {"method": method, "share": share, "note": None}
                if rival is None or size is None:
                    yield row | {"note": refusal or "does not fit"} | dict.fromkeys(STORED + MEASURED)
                    continue
                stored = rival.stored_bytes(size)
                row |= dict(zip(STORED, (size, rival.stored_parameters(size), stored, stored / original), strict=True))
                yield row | journal.remember(partial(measure, rival, size), {"method": method, "size": size})

        rows = [row for method in settings.methods for row in rows_of(method)]

    runs = [row for row in rows if row["ratio"] is not None]
    with stage.output() as out:
        write_json(out / "rows.json", rows)
        write_rows(out / "plots" / "pareto.json", ({key: row[key] for key in PARETO} for row in runs))
        summary = {
            "tokens": comparison.tokens,
            "tokens_spent": sum(row["tokens"] for row in runs),
            "original_bytes": original,
            "half_width_near_1_05": half_width_near_bearable(runs),
            "smallest_share_at_1_05": smallest_shares(rows),
            "proxy": proxies(runs),
        }
        write_json(out / "summary.json", summary)


def sizes(rival: Rival | None, shares: Sequence[float], original: int) -> list[tuple[float, int | None]]:
    """Each share of the original bytes with the largest size that fits, None where there is none.

    What has a larger share but no larger size is the same run and left out.
    """
    found = [(share, None if rival is None else size_within(rival, int(share * original))) for share in shares]
    return [
        (share, size) for i, (share, size) in enumerate(found) if size is None or size not in dict(found[:i]).values()
    ]


def fitted(method: str, problem: Problem) -> tuple[Rival | None, str | None]:
    """The fitted rival, or why this model does not allow it."""
    try:
        return METHODS[method].fit(problem), None
    except PermeationError as refusal:
        return None, str(refusal)


if __name__ == "__main__":
    run(main)

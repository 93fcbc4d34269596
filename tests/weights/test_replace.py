"""One loop measures every changed model, and what it keeps is enough to compute its table again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from permeation.config import Config
from permeation.frame.journal import Journal
from permeation.frame.tables import read_json
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Windows
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection
from permeation.weights.replace import (
    Change,
    Context,
    Job,
    Measured,
    Scorer,
    Unmeasured,
    measure_all,
    mixing_job,
    write_measured,
)
from tests.support import tiny


@pytest.fixture
def context(config: Config, tmp_path: Path) -> Context:
    network = prepare_for_scoring(tiny.model("llama"), "float32", 16)
    tokens = torch.randint(9, (8, 16), generator=torch.Generator().manual_seed(0))
    settings = replace(config.perplexity, tolerance=None, batch_size=2)
    empty = Baseline(Windows(tokens, torch.arange(8)), np.zeros(8))
    untouched = Baseline(empty.windows, empty.score(network, settings, lambda _: None))
    return Context(Scorer(lambda: network, untouched, settings), Journal(tmp_path / "journal", "base"))


def half_queries(context: Context) -> Change:
    return Change({"W_Q": read_heads(context.scorer.model).W_Q / 2}, {"halves": 1.0})


def measured(context: Context, *jobs: Job | Unmeasured) -> list[Measured]:
    return list(measure_all(jobs, context, lambda _: None))


def test_a_row_can_be_computed_again_from_what_is_kept(context: Context, tmp_path: Path) -> None:
    rows = measured(
        context,
        Job({"k": 1}, lambda: half_queries(context), columns={"asked": "one"}),
        Unmeasured({"asked": "many", "k": 99}, "more than there are"),
        Job({"k": 0}, lambda: Change({})),
    )
    write_measured(tmp_path, rows, context.baseline)
    nll, table = np.load(tmp_path / "nll.npy"), read_json(tmp_path / "rows.json")
    assert nll.shape == (4, 8)
    assert np.array_equal(nll[0], context.baseline.nll)
    assert table[0]["ratio"] == pytest.approx(np.exp(np.nanmean(nll[1] - nll[0]) / 15))
    assert table[0] | {"asked": "one", "k": 1, "halves": 1.0, "tokens": 8 * 15, "windows": 8, "note": None} == table[0]
    assert table[0]["low"] < table[0]["ratio"] < table[0]["high"] != 1.0
    assert (table[1]["ratio"], table[1]["note"]) == (None, "more than there are")
    assert np.isnan(nll[2]).all()
    assert table[2]["ratio"] == 1.0
    assert [row.there for row in rows] == [True, False, True]


def test_what_the_journal_knows_is_not_made_again(context: Context) -> None:
    first = measured(context, Job({"k": 1}, lambda: half_queries(context)))

    def never() -> Change:
        raise AssertionError("made again")

    (again,) = measured(context, Job({"k": 1}, never))
    assert again.row == first[0].row
    assert np.array_equal(again.nll, first[0].nll)


def test_progress_is_told_the_same_for_every_job(context: Context) -> None:
    for _ in ("measured", "recalled"):
        told: list[int] = []
        list(measure_all([Job({"k": 1}, lambda: half_queries(context))], context, told.append))
        assert sum(told) == context.tokens_per_job == 8 * 16


def test_the_first_windows_are_always_as_many(context: Context) -> None:
    loose = replace(context, scorer=replace(context.scorer, settings=replace(context.scorer.settings, tolerance=0.5)))
    for count in (2, 3, 2):  # the journal knows which
        (row,) = measured(loose.first(count), Job({}, lambda: half_queries(context)))
        assert row.nll.size == count


@pytest.mark.parametrize("layers", [range(3), range(1, 3), range(2, 3)])
def test_only_the_heads_of_these_layers_are_mixed(context: Context, layers: range) -> None:
    heads = read_heads(context.scorer.model)
    injection = GramInjection.fit(heads)
    job = mixing_job({}, injection, lambda: torch.full((12, 12), 1 / 12, dtype=torch.float64), layers)
    change = job.change()
    kept = [layer for layer in range(3) if layer not in layers]
    torch.testing.assert_close(change.weights["W_Q"][kept], heads.W_Q[kept])
    moved = (change.weights["W_Q"] - heads.W_Q).flatten(1).norm(dim=1)
    assert (moved[list(layers)] > 0.1).all()
    assert job.first_layer == layers.start
    # Blocks that are passed over change nothing.
    whole = Job({"whole": True}, job.change)
    part, every = measured(context, Job({"part": True}, job.change, job.first_layer), whole)
    assert np.array_equal(part.nll, every.nll)


def test_a_head_without_queries_does_not_hide_the_others(context: Context) -> None:
    heads = read_heads(context.scorer.model)
    W_Q: Any = heads.W_Q.clone()
    W_Q[1, 2] = 0
    injection = GramInjection.fit(replace(heads, W_Q=W_Q))
    assert injection.relative_change(W_Q.double() * 2).tolist() == pytest.approx([1.0] * 11)

"""One way to measure a changed model, and what it keeps is enough to compute its table again."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from permeation.frame.engine import Local
from permeation.frame.journal import Journal
from permeation.frame.tables import read_json
from permeation.perplexity.ratio import Baseline
from permeation.perplexity.windows import Windows
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection
from permeation.weights.replace import Change, Job, Measured, Scorer, measure, mixing_job, ratio_tables, write_measured
from tests.support import tiny


@pytest.fixture
def scorer() -> Scorer:
    network = tiny.model("llama")
    windows = Windows(torch.randint(9, (8, 16), generator=torch.Generator().manual_seed(0)), torch.arange(8))
    untouched = Baseline(windows, Baseline(windows, np.zeros(8)).score(network, None, 2))
    return Scorer(lambda: network, untouched, tolerance=None, batch_size=2)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", "base")


def run(scorer: Scorer, journal: Journal, *jobs: Job) -> list[Measured]:
    return list(measure(jobs, scorer, journal, Local()))


def half_queries(scorer: Scorer) -> Change:
    return Change({"W_Q": read_heads(scorer.model).W_Q / 2}, {"halves": 1.0})


def never() -> Change:
    raise AssertionError("made again")


def test_a_row_can_be_computed_again_from_what_is_kept(scorer: Scorer, journal: Journal, tmp_path: Path) -> None:
    jobs = (
        Job({"k": 1}, lambda: half_queries(scorer), {"asked": "one"}),
        Job({"k": 99}, None, {"asked": "many"}),  # more than the model has
        Job({"k": 0}, lambda: Change({})),
    )
    write_measured(tmp_path, run(scorer, journal, *jobs), scorer.baseline)
    nll, (half, refused, untouched) = np.load(tmp_path / "nll.npy"), read_json(tmp_path / "rows.json")
    assert nll.shape == (4, 8)
    assert np.array_equal(nll[0], scorer.baseline.nll)
    assert list(half) == ["asked", "k", "ratio", "low", "high", "tokens", "windows", "halves"]
    assert half["ratio"] == pytest.approx(np.exp(np.nanmean(nll[1] - nll[0]) / 15))
    assert half["low"] < half["ratio"] < half["high"] != 1.0
    assert (half["asked"], half["k"], half["halves"], half["tokens"], half["windows"]) == ("one", 1, 1.0, 8 * 15, 8)
    assert (refused["asked"], refused["ratio"]) == ("many", None)
    assert np.isnan(nll[2]).all()
    assert untouched["ratio"] == 1.0


def test_what_the_journal_knows_is_not_made_again(scorer: Scorer, journal: Journal) -> None:
    (first,) = run(scorer, journal, Job({"k": 1}, lambda: half_queries(scorer)))
    # The same key twice, as where a share of the variance is one of the counts; and a new one behind it.
    new = (Job({"k": 2}, lambda: Change({}), {"asked": "2"}), Job({"k": 2}, lambda: Change({}), {"asked": "50%"}))
    again, two, same, three = run(
        scorer, journal, Job({"k": 1}, never), *new, Job({"k": 3}, lambda: half_queries(scorer))
    )
    assert again.row == first.row
    assert np.array_equal(again.nll, first.nll)
    assert (two.row, two.row["ratio"]) == (same.row | {"asked": "2"}, 1.0)
    assert three.row == first.row | {"k": 3}


def test_weights_of_one_change_exist_at_a_time(scorer: Scorer, journal: Journal) -> None:
    made: list[Any] = []

    def change() -> Change:
        assert all(weights() is None for weights in made)
        weights = read_heads(scorer.model).W_Q.clone()
        made.append(weakref.ref(weights))
        return Change({"W_Q": weights})

    assert len(run(scorer, journal, *(Job({"k": k}, change) for k in range(3)))) == len(made) == 3


def test_a_job_takes_exactly_its_windows(scorer: Scorer, journal: Journal) -> None:
    loose = replace(scorer, tolerance=0.5)
    for windows in (2, 3, 2):  # the journal knows which
        (found,) = run(loose, journal, Job({}, lambda: half_queries(scorer), windows=windows))
        assert found.row["windows"] == found.nll.size == windows


@pytest.mark.parametrize("layers", [range(3), range(1, 3), range(2, 3)])
def test_only_the_heads_of_these_layers_are_mixed(scorer: Scorer, layers: range) -> None:
    heads = read_heads(scorer.model)
    job = mixing_job({}, GramInjection.fit(heads), lambda: torch.full((12, 12), 1 / 12).double(), layers)
    assert job.change is not None
    W_Q = job.change().weights["W_Q"]
    kept = [layer for layer in range(3) if layer not in layers]
    torch.testing.assert_close(W_Q[kept], heads.W_Q[kept])
    assert ((W_Q - heads.W_Q).flatten(1).norm(dim=1)[list(layers)] > 0.1).all()


def test_a_head_without_queries_does_not_hide_the_others(scorer: Scorer) -> None:
    heads = read_heads(scorer.model)
    W_Q = heads.W_Q.clone()
    W_Q[1, 2] = 0
    injection = GramInjection.fit(replace(heads, W_Q=W_Q))
    assert injection.relative_change(W_Q.double() * 2).tolist() == pytest.approx([1.0] * 11)


def test_tables_hold_both_choices_of_layers() -> None:
    numbers = {"ratio": 2.0, "low": 1.0, "high": 3.0}
    rows = [{"k": 4, "replaced": "all layers", **numbers}, {"k": 4, "replaced": "all layers but the first", **numbers}]
    one = {"ratio": {"4": 2.0}, "ratio_low": {"4": 1.0}, "ratio_high": {"4": 3.0}}
    assert ratio_tables(rows, "k") == one | {"first_layer_kept": one}

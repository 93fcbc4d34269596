"""What compressed models keep of the sense: the untouched model keeps all of it."""

import numpy as np
import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.heads.compressed import MEASURES, kept_rows, kept_summary, measure_sense, near
from permeation.meaning.activations import Activations
from permeation.meaning.words import Prompt
from permeation.weights.heads import read_heads
from permeation.weights.inject import injected
from tests.support import tiny

SENSE = {measure: np.array([0.6, 0.8]) * (1 + i) for i, measure in enumerate(MEASURES)}


def row(method: str, ratio: float | None, size: int = 1) -> dict[str, object]:
    about = {"low": ratio and 0.99 * ratio, "high": ratio and 1.01 * ratio}
    return {"method": method, "size": size, "ratio": ratio, **about, "share": 0.5}


def test_the_nearest_sizes_of_the_nearest_methods_are_taken_once() -> None:
    rows = [row("a", 1.01, 1), row("a", 1.06, 2), row("b", 1.04), row("c", 1.3), row("d", None), row("e", 50.0)]
    taken = [(each["method"], each["size"]) for each in near(rows, [1.05, 1.3], 2)]
    assert taken == [("a", 2), ("b", 1), ("c", 1)]
    with pytest.raises(PermeationError, match="none of the rivals was measured"):
        near(rows[4:5], [1.05], 2)


def test_the_model_itself_keeps_all_and_half_is_half() -> None:
    half = SENSE | {"gap": SENSE["gap"] / 2, "auc": (SENSE["auc"] + 0.5) / 2}
    rows = kept_rows(SENSE, [(row("same", 1.0), SENSE), (row("half", 1.3), half)], 50, 0)
    found = {(each["method"], each["measure"]): each for each in rows}
    for key in ("kept", "kept_low", "kept_high"):
        assert found["same", "gap"][key] == pytest.approx(1)
        assert found["half", "gap"][key] == pytest.approx(0.5)
        assert found["half", "auc"][key] == pytest.approx(0.5)
        assert found["half", "separation"][key] == pytest.approx(1)
    summary = kept_summary(SENSE, rows)
    assert summary["models"] == 2
    assert summary["untouched"]["auc"] == pytest.approx(0.7)
    assert summary["gap"]["least_within_5"]["method"] == "same 1"
    assert summary["gap"]["most_beyond_25"]["kept"] == pytest.approx(0.5)


def test_a_sense_that_was_not_there_cannot_be_kept() -> None:
    nothing = SENSE | {"separation": np.array([0.1, -0.2])}
    rows = kept_rows(nothing, [(row("a", 1.0), SENSE)], 20, 0)
    assert [each["kept"] for each in rows if each["measure"] == "separation"] == [None]


def test_weights_that_are_injected_are_felt_and_the_own_ones_are_not() -> None:
    model = tiny.model("llama")
    prompts, sequences = [], []
    places = [("direction", sense, rank) for sense in "AB" for rank in range(4)]
    places += [("condition", name, 0) for name in ("strong_A", "weak_A", "neutral", "weak_B", "strong_B")]
    places += [("gradient", sense, rank) for sense in "AB" for rank in range(2)]
    for role, label, rank in places:
        prompts.append(Prompt("one", f"{role} {label} {rank} one", role, label, rank))
        sequences.append([1, 20 if label.endswith("A") else 40, 60 + rank, 50 + len(prompts) % 3, 7])
    empty = np.zeros((len(prompts), tiny.LAYERS + 1, tiny.WIDTH), np.float32)
    asked = (Activations(tuple(prompts), empty, empty), sequences, ["one"], [1, 3], tiny.LAYERS, 0)
    untouched = measure_sense(model, *asked)
    own = read_heads(model)
    with torch.no_grad(), injected(model, W_Q=own.W_Q, W_K=own.W_K):
        same = measure_sense(model, *asked)
    with torch.no_grad(), injected(model, W_Q=0 * own.W_Q):
        without = measure_sense(model, *asked)
    for measure in MEASURES:
        np.testing.assert_array_equal(same[measure], untouched[measure])
        assert untouched[measure].shape == (1,)
    assert abs(without["gap"] - untouched["gap"]) > 1e-3 * abs(untouched["gap"])

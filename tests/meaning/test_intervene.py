"""Interventions: identities, and a planted direction that is found."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from permeation.meaning.activations import Activations
from permeation.meaning.intervene import CONTROLS, KINDS, MatchedPairs, clean_auc, lean, leaning, response_to_shift
from permeation.meaning.measure_uses import Shifting, Uses, measure_uses
from permeation.meaning.residuals import residuals_at
from permeation.meaning.runs import read_last, resume
from permeation.meaning.words import Prompt
from permeation.models.families import blocks
from tests.support import tiny

SEQUENCES = [[1, 5, 9, 12, 7, 11], [1, 8, 3, 30, 7, 11], [1, 4, 4, 21, 7, 11]]


def test_a_token_that_is_resumed_from_its_own_stream_gives_what_the_whole_prompt_gives(family: str) -> None:
    model = tiny.model(family)
    run = read_last(model, SEQUENCES, 2)
    whole = model(torch.tensor(SEQUENCES)).logits[:, -1]
    torch.testing.assert_close(run.logits, whole, atol=1e-4, rtol=1e-4)
    for layer in range(tiny.LAYERS + 1):
        found = resume(model, run, layer)
        torch.testing.assert_close(found, whole[:, None].expand_as(found), atol=1e-4, rtol=1e-4)


def test_a_shift_is_what_a_hook_on_the_whole_prompt_does(family: str) -> None:
    model, layer = tiny.model(family), 2
    shift = torch.randn(3, 1, tiny.WIDTH)
    run = read_last(model, SEQUENCES, 1)
    found = resume(model, run, layer, run.streams[layer - 1][:, None] + shift)

    def push(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.index_add(1, torch.tensor([5]), shift)

    plain = model(torch.tensor(SEQUENCES)).logits[:, -1]
    handle = blocks(model)[layer - 1].register_forward_hook(push)
    whole = model(torch.tensor(SEQUENCES)).logits[:, -1]
    handle.remove()
    torch.testing.assert_close(found[:, 0], whole, atol=1e-4, rtol=1e-4)
    assert (found[:, 0] - plain).abs().max() > 0.01


def test_at_the_last_layer_the_transplant_is_complete(family: str) -> None:
    """The word then predicts what the other prompt does."""
    model = tiny.model(family)
    clean = read_last(model, SEQUENCES, 1)
    logits = resume(model, clean, tiny.LAYERS, clean.streams[-1].roll(1, 0)[:, None])
    torch.testing.assert_close(logits[:, 0], clean.logits.roll(1, 0), atol=1e-4, rtol=1e-4)


def test_the_model_is_as_it_was_when_a_run_fails(family: str) -> None:
    model = tiny.model(family)
    clean = read_last(model, SEQUENCES, 1)
    head = model.get_output_embeddings()
    model.set_output_embeddings(nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        resume(model, clean, 2)
    model.set_output_embeddings(head)
    assert all("forward" not in vars(block) for block in blocks(model))
    torch.testing.assert_close(read_last(model, SEQUENCES, 1).logits, clean.logits)


def test_hooks_stand_around_the_last_token_alone_and_are_removed() -> None:
    model = tiny.model("llama")
    seen: list[torch.Tensor] = []

    def record() -> list[Any]:
        return [blocks(model)[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))]

    read_last(model, SEQUENCES, 1, record)
    model(torch.tensor(SEQUENCES))
    assert [len(each[0]) for each in seen] == [1]


def planted() -> Shifting:
    """Two words in a random model; each prompt ends in a token of its own, and these differ by sense along one axis."""
    rng, model = torch.Generator().manual_seed(0), tiny.model("llama")
    axis = torch.randn(tiny.WIDTH, generator=rng)
    roles = [("direction", sense, rank) for sense in "AB" for rank in range(5)]
    roles += [("gradient", sense, rank) for sense in "AB" for rank in range(2)]
    roles += [("condition", f"strong_{sense}", 0) for sense in "AB"]
    prompts, sequences = [], []
    for word in ("one", "two"):
        for role, label, rank in roles:
            token = len(prompts) + 20
            noise = 0.1 * torch.randn(tiny.WIDTH, generator=rng)
            model.get_input_embeddings().weight[token] = noise + (axis if label.endswith("A") else -axis)
            prompts.append(Prompt(word, f"{role} {label} {rank} {word}", role, label, rank))
            sequences.append([2, 3 + rank, token] if rank % 2 else [2, token])
    at_word = np.empty((len(prompts), tiny.LAYERS + 1, tiny.WIDTH), np.float32)
    for batch, stream in residuals_at(model, sequences, [[len(each) - 1] for each in sequences], 8):
        at_word[batch] = stream[:, 0]
    activations = Activations(tuple(prompts), at_word, at_word)
    return Shifting(lambda: model, sequences, activations, 0)


def uses(least_auc: float = 0.9, run: Any = map) -> Uses:
    return measure_uses(planted(), range(1, tiny.LAYERS + 1), tiny.LAYERS, least_auc, run)


def test_a_planted_direction_is_found() -> None:
    found = uses()
    assert list(found.words) == ["one", "two"]
    whole, one, erased = (found.response(kind) for kind in ("transplant", "one_direction", "erasure"))
    np.testing.assert_allclose(whole[:, -1], 1, atol=1e-4)
    np.testing.assert_allclose(one, whole, atol=0.15)
    np.testing.assert_allclose(erased, 0.5, atol=0.3)
    for kind in CONTROLS:
        assert np.abs(found.response(kind)).max() < 0.5
    summary = found.summary(20, 0)
    assert summary["onset"]["value"] == pytest.approx(1 / 3)
    assert list(summary["response"].values()) == pytest.approx(one.mean(axis=0).tolist())
    assert {row["panel"] for row in found.depth_rows()} == {"one", "two"}
    assert {row["word"] for row in found.rows()} == {"one", "two", "mean"}


def test_where_no_words_senses_differ_in_the_next_token_nothing_is_shifted() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    found = uses(least_auc=1.1, run=never)
    assert found.summary(5, 0) == {"words": 0, "unmeasurable_words": ["one", "two"]}
    assert {(row["word"], row["value"]) for row in found.rows()} == {("mean", None)}
    assert {row["series"] for row in found.depth_rows()} == {"auc", "g"}


def test_onset_plateau_and_second_rise_of_planted_curves() -> None:
    """The third word never rises a second time; medians over words; the plateau is the mean between the two."""
    curves = [[0.1, 0.6, 0.6, 0.9], [0.2, 0.5, 0.5, 1.0], [0.0, 0.1, 0.4, 0.5]]
    R = np.zeros((3, 4, len(KINDS)))
    R[:, :, KINDS.index("one_direction")] = curves
    R[:, :, KINDS.index("transplant")] = 1
    R[0, 0, KINDS.index("random")] = 0.3
    found = Uses([2, 4, 6, 8], 8, dict(zip("abc", R, strict=True)), [], {}, {}).summary(200, 0)
    assert found["onset"] == {"value": 0.5, "low": 0.5, "high": 0.75}
    assert found["second_rise"] == {"value": 1, "low": 1, "high": None}
    assert found["plateau"]["value"] == pytest.approx((0.6 + 0.5 + 0.25) / 3)
    assert found["plateau"]["low"] == pytest.approx((0.5 + 0.25 + 0.25) / 3)
    assert found["control_max"] == pytest.approx(0.1)
    assert found["response"]["6"] == pytest.approx(0.5)
    late = Uses([8], 8, {"late": np.zeros((1, len(KINDS)))}, [], {}, {}).summary(5, 0)
    assert late["onset"]["value"] is late["onset"]["high"] is late["plateau"]["value"] is None


def pairs(rng: np.random.Generator) -> MatchedPairs:
    a, b = rng.normal(size=(2, 4, 3, 16))
    return MatchedPairs.of("word", a + 1, b)


def test_a_pairs_direction_is_made_from_the_other_pairs() -> None:
    found = pairs(np.random.default_rng(1))
    a, b = found.stream[1:4].mean(axis=0), found.stream[5:].mean(axis=0)
    np.testing.assert_allclose(found.direction[0], (a - b) / np.linalg.norm(a - b, axis=-1, keepdims=True))
    np.testing.assert_allclose(found.middle[0], (a + b) / 2)


def test_shifts_do_what_they_are_called() -> None:
    found = pairs(np.random.default_rng(2))
    shifts = dict(zip(KINDS, np.moveaxis(found.shifts(2, seed=0), 1, 0), strict=True))
    stream, direction = found.stream[:, 2], np.tile(found.direction[:, 2], (2, 1))
    middle = np.tile(found.middle[:, 2], (2, 1))
    twin = np.roll(stream, 4, axis=0)

    def along(vectors: np.ndarray) -> np.ndarray:
        return (vectors * direction).sum(axis=-1)

    np.testing.assert_allclose(stream + shifts["transplant"], twin)
    np.testing.assert_allclose(along(stream + shifts["one_direction"]), along(twin))
    np.testing.assert_allclose(along(stream + shifts["erasure"] - middle), 0, atol=1e-12)
    for control in CONTROLS:
        np.testing.assert_allclose(along(shifts[control]), 0, atol=1e-12)
        length = np.linalg.norm(shifts["one_direction"], axis=-1)
        np.testing.assert_allclose(np.linalg.norm(shifts[control], axis=-1), length)


def test_leaning_tells_apart_what_the_other_pairs_tell_apart() -> None:
    a, b = torch.tensor([[0.8, 0.2, 0.0]] * 3), torch.tensor([[0.2, 0.2, 0.6]] * 3)
    probabilities = torch.cat([a, b])
    weights = leaning(probabilities)
    expected = torch.log(torch.tensor([0.8 / 0.2, 1.0, 1e-6 / 0.6]))
    torch.testing.assert_close(weights[1], expected, atol=1e-4, rtol=1e-4)
    leans = lean(probabilities[:, None], torch.cat([weights, weights]))[:, 0].numpy()
    assert clean_auc(leans) == 1
    assert clean_auc(np.zeros(6)) == 0.5


def test_a_response_counts_from_nothing_to_all() -> None:
    clean = np.array([1.0, 3.0, -1.0, -3.0])
    shifted = np.stack([clean, -clean, 0 * clean], axis=1)
    np.testing.assert_allclose(response_to_shift(clean, shifted), [0, 1, 0.5])

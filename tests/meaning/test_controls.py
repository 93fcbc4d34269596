"""Controls: the corrections are the textbook's, and the prediction from geometry is g where nothing else is there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import (
    Activations,
    direction_pairs,
    graded_words,
    repeats,
    unrepeated,
    weaknesses,
)
from permeation.meaning.controls import PRIMARY, SECONDARY, holm, permutation_p, predicted_shape, run_controls
from permeation.meaning.decode_words import decode_words
from permeation.meaning.drift import measure_drift
from permeation.meaning.factors import word_residuals
from permeation.meaning.shape import fit_shape
from permeation.meaning.sigma import measure_fans
from permeation.meaning.words import CONDITIONS, Prompt

LAYERS, WIDTH = 5, 24


def test_holm_is_the_worked_example() -> None:
    """p = 0.01, 0.04, 0.03, 0.005 give 0.03, 0.06, 0.06, 0.02 (R's p.adjust of these)."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.7, "b": 0.8}) == pytest.approx({"a": 1, "b": 1})


def test_holm_keeps_its_level() -> None:
    """Of 10 true nulls, at least one is rejected at 0.05 in about one run of twenty."""
    rng = np.random.default_rng(0)
    rejected = [
        min(holm({str(i): p for i, p in enumerate(rng.uniform(size=10))}).values()) <= 0.05 for _ in range(2000)
    ]
    assert 0.035 < np.mean(rejected) < 0.065


def test_a_permutation_p_counts_the_labelling_itself() -> None:
    null = np.array([1.0, 2.0, 3.0, 4.0])
    assert permutation_p(5.0, null) == pytest.approx(1 / 5)
    assert permutation_p(2.5, null) == pytest.approx(3 / 5)
    assert permutation_p(0.0, null, two_sided=True) == pytest.approx(2 / 5)
    assert permutation_p(2.5, null, two_sided=True) == 1


def word_prompts(word: str, direction: int = 8, gradient: int = 4) -> list[Prompt]:
    """A word's prompts, all different."""
    lists = [("direction", sense, direction) for sense in "AB"] + [("condition", each, 2) for each in CONDITIONS]
    lists += [("gradient", sense, gradient) for sense in "AB"]
    return [
        Prompt(word, f"{role} {label} {rank} {word}", role, label, rank)
        for role, label, count in lists
        for rank in range(count)
    ]


LEAN = {"A": 1.0, "B": -1.0, "strong_A": 0.8, "weak_A": 0.4, "neutral": 0.0, "weak_B": -0.4, "strong_B": -0.8}


def planted(prompts: list[Prompt], sense: float, seed: int = 0) -> Activations:
    """Streams of one length with a sense that grows with depth, along one axis a word, over noise before the word."""
    rng = np.random.default_rng(seed)
    axes = {word: rng.normal(size=WIDTH) for word in {p.word: None for p in prompts}}
    depth = np.linspace(0, 1, LAYERS) ** 2
    at_word = 1 + 0.3 * rng.normal(size=(len(prompts), 1, WIDTH)) * np.linspace(0.1, 1, LAYERS)[:, None]
    for i, prompt in enumerate(prompts):
        strength = LEAN[prompt.label] * ((prompt.rank + 1) / 4 if prompt.role == "gradient" else 1)
        at_word[i] += sense * strength * depth[:, None] * axes[prompt.word] / np.sqrt(WIDTH)
    before = rng.normal(size=at_word.shape)
    return Activations(tuple(prompts), at_word.astype(np.float32), before.astype(np.float32))


TWO = [*word_prompts("one"), *word_prompts("two")]


def test_the_prediction_is_the_path_of_the_contrast() -> None:
    """Streams of equal norm whose contrast keeps its direction: g̃ is its size by depth."""
    path = np.array([0.0, 0.1, 0.3, 0.6, 1.0])
    stream = np.zeros((len(TWO), LAYERS, WIDTH), np.float32)
    for i, prompt in enumerate(TWO):
        along = 0.5 * path * (1 if prompt.label.endswith("A") else -1)
        stream[i, :, 0], stream[i, :, 1] = along, np.sqrt(1 - along**2)
    found = predicted_shape(Activations(tuple(TWO), stream, stream), LAYERS - 1)
    np.testing.assert_allclose(found["one"], path, atol=1e-6)


def test_controls_tell_a_planted_sense_from_none() -> None:
    activations = planted(TWO, sense=4.0)
    controls = run_controls(activations, LAYERS - 1, permutations=99, draws=20, resamples=10, seed=0)
    found = controls.summary(1, {"direction_own": 0.01})
    assert list(found["p"]) == [PRIMARY, *SECONDARY, "auc.direction_own"]
    assert found["rank"]["word_correlation_mean"] > found["rank"]["null_correlation_mean"]
    assert found["p"]["rank.f_max_mean"] == pytest.approx(11 / 100)  # the smallest there is, over 99 shuffles, by Holm
    assert found["predicted_correlation_min"] > 0.9
    assert found["auc_at_word"]["4"] > 0.9 > found["auc_before"]["4"]
    assert controls.excess[-1] > 0.5
    assert {(row["panel"], row["series"]) for row in controls.rows()} >= {("g", "predicted"), ("auc", "before")}


def test_one_word_alone_has_no_correlation_and_no_primary_test() -> None:
    activations = planted(word_prompts("one"), sense=4.0)
    found = run_controls(activations, LAYERS - 1, 9, 5, 5, 0).summary(1, {})
    assert found["null_correlation_mean"] is found["null_correlation_low"] is found["before"]["rank_correlation_mean"]
    assert found["null_correlation_mean"] is None
    assert PRIMARY not in found["p"]
    assert "another_word" not in measure_drift(word_residuals(activations, 4), "final", 3, 0).factors


def test_the_shape_has_its_tables() -> None:
    activations = planted(TWO, sense=4.0)
    shape = fit_shape(word_residuals(activations, 4), "final", 0.1, 1, 20, 0)
    summary = shape.summary()
    assert summary["word_correlation_mean_low"] <= summary["word_correlation_mean"] <= 1
    assert summary["f_max_low"]["one"] < summary["f_max"]["one"] < summary["f_max_high"]["one"]
    assert [row["g"] for row in shape.g_rows() if row["word"] == "mean"] == pytest.approx(list(shape.means["g"]))
    assert {row["word"] for row in shape.response_rows()} == {"one", "two"}
    assert {row["target"] for row in shape.law_rows()} == {"g", "f"}


def test_the_fan_is_in_order() -> None:
    fan = measure_fans(planted(TWO, sense=8.0), 4)["one"]
    assert fan.ordered
    assert fan.order_tau == pytest.approx(1)
    assert fan.separation > 0


def test_strong_contexts_that_are_the_same_are_an_error() -> None:
    activations = planted(TWO, sense=8.0)
    same = activations.at_word.copy()
    for rank in range(2):
        a, b = (
            next(i for i, p in enumerate(TWO) if (p.word, p.label, p.rank) == ("two", label, rank))
            for label in ("strong_A", "strong_B")
        )
        same[a] = same[b]
    with pytest.raises(PermeationError, match="two: strong_A and strong_B give the same σ at the last layer"):
        measure_fans(replace(activations, at_word=same), 4)


def test_activations_come_back_as_they_were_written(tmp_path: Path) -> None:
    activations = planted(TWO, sense=1.0)
    activations.write(tmp_path)
    found = Activations.read(tmp_path)
    assert found.prompts == activations.prompts
    np.testing.assert_array_equal(found.at_word, activations.at_word)
    np.testing.assert_array_equal(found.before, activations.before)


def weak_list() -> list[Prompt]:
    """One word as it should be; one with two direction prompts a sense; one without a gradient and with repeats."""
    third = word_prompts("three", direction=5, gradient=0)
    repeated = [
        Prompt("three", third[0].text, "condition", "neutral", 2),
        Prompt("three", third[1].text.replace(" ", "  "), "direction", "A", 5),
        Prompt("three", "direction B 5 three", "direction", "B", 5),
    ]
    return [*word_prompts("one"), *word_prompts("two", direction=2, gradient=2), *third, *repeated]


def test_what_weakens_a_list_is_counted() -> None:
    prompts = weak_list()
    assert weaknesses(prompts) == {"few_direction_prompts": 2, "without_gradient": 1, "repeated_prompts": 2}
    assert weaknesses(TWO) == dict.fromkeys(weaknesses(TWO), 0)
    assert graded_words(prompts) == ["one", "two"]


def test_prompts_are_compared_after_unicode_normalisation() -> None:
    composed, decomposed = "the caf\u00e9 bank", "the cafe\u0301 bank"
    prompts = [Prompt("bank", composed, "gradient", "A", 0), Prompt("bank", decomposed, "direction", "A", 0)]
    assert repeats(prompts).tolist() == [True, False]  # the direction prompt stays


def test_repeated_prompts_and_short_lists_are_kept_out_of_held_out_figures() -> None:
    prompts = weak_list()
    assert len(unrepeated(prompts, "three", "direction", "A")) == 5
    pairs = direction_pairs(prompts)
    assert list(pairs) == ["one", "three"]
    assert len(pairs["three"]) == 5
    decoded = decode_words(planted(prompts, 4.0), 4, "direction", "own", 5, 5, 0)
    assert list(decoded.words) == ["one", "three"]
    assert list(decode_words(planted(prompts, 4.0), 4, "gradient", "final", 5, 5, 0).words) == ["one", "two"]


def test_a_repeated_prompt_takes_its_twin_out_of_the_pairs() -> None:
    """All other prompts stay with the twin that they have, as if the two had never been there."""
    prompts = word_prompts("one")
    places = [i for i, prompt in enumerate(prompts) if (prompt.role, prompt.label) == ("direction", "A")]
    copied = [*prompts]
    copied[places[2]] = replace(prompts[places[2]], text=prompts[places[0]].text)
    twin = next(i for i, p in enumerate(prompts) if (p.role, p.label, p.rank) == ("direction", "B", 2))
    whole = planted(prompts, 1.0)
    kept = [i for i in range(len(prompts)) if i not in (places[2], twin)]
    fewer = Activations(tuple(prompts[i] for i in kept), whole.at_word[kept], whole.before[kept])
    repeated = Activations(tuple(copied), whole.at_word, whole.before)
    found, expected = (decode_words(each, 4, "direction", "own", 20, 5, 0).words["one"] for each in (repeated, fewer))
    np.testing.assert_array_equal(found.auc, expected.auc)
    np.testing.assert_array_equal(found.permuted, expected.permuted)


def test_a_list_without_what_a_figure_needs_is_an_error() -> None:
    ungraded = planted(word_prompts("one", gradient=0), 1.0)
    with pytest.raises(PermeationError, match="no word of the words file has gradient prompts of both senses"):
        word_residuals(ungraded, 4)
    with pytest.raises(PermeationError, match="no word of the words file has the gradient prompts that decoding"):
        decode_words(ungraded, 4, "gradient", "own", 1, 1, 0)

"""Controls: corrections are the textbook's; curves that differ between words are told apart; geometry predicts g."""

import numpy as np
import pytest

from permeation.meaning.activations import Activations, direction_pairs, graded_words, repeats, weaknesses
from permeation.meaning.bootstrap import permutation_p
from permeation.meaning.controls import OF_FINAL_ALONE, PRIMARY, SECONDARY, holm, run_controls
from permeation.meaning.factors import WordResiduals
from permeation.meaning.nulls import NULLS
from permeation.meaning.reliability import identified, measure_reliability, own_and_others, predicted_shape
from permeation.meaning.words import Prompt
from tests.meaning.planted import LAYERS, TWO, WIDTH, planted, with_sigma, word_prompts


def test_holm_is_the_worked_example() -> None:
    """p = 0.01, 0.04, 0.03, 0.005 give 0.03, 0.06, 0.06, 0.02 (R's p.adjust of these)."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.7, "b": 0.8}) == pytest.approx({"a": 1, "b": 1})


def test_a_permutation_p_counts_the_labelling_itself() -> None:
    null = np.array([1.0, 2.0, 3.0, 4.0])
    assert permutation_p(5.0, null) == pytest.approx(1 / 5)
    assert permutation_p(2.5, null) == pytest.approx(3 / 5)
    assert permutation_p(0.0, null, two_sided=True) == pytest.approx(2 / 5)
    assert permutation_p(2.5, null, two_sided=True) == 1


def test_own_and_others_are_the_means_on_and_off_the_diagonal() -> None:
    C = np.random.default_rng(0).normal(size=(3, 3))
    own, others = own_and_others(C, np.ones(3))
    assert own == pytest.approx(np.diag(C).mean())
    assert others == pytest.approx(C[~np.eye(3, dtype=bool)].mean())
    assert identified(np.eye(3)) == 1
    assert identified(np.eye(3)[::-1]) == pytest.approx(1 / 3)


def curved(power: float, rng: np.random.Generator, noise: float = 0.02) -> WordResiduals:
    """A word with g = x^power."""
    rank = np.concatenate([np.arange(1, 11), -np.arange(1, 11)]) / 10
    return with_sigma(0.5 * np.outer(rank, np.linspace(0, 1, 9) ** power) + noise * rng.normal(size=(20, 9)), rank, rng)


def test_a_half_takes_every_other_prompt_of_each_sense_and_keeps_their_rank() -> None:
    word = curved(1.0, np.random.default_rng(0))
    halves = [word.half(first) for first in range(2)]
    np.testing.assert_array_equal(halves[1].rank, word.rank[[1, 3, 5, 7, 9, 11, 13, 15, 17, 19]])
    np.testing.assert_array_equal(halves[0].sense_b, word.sense_b[::2])
    graded = [{each.tobytes() for each in half.measured[:10]} for half in halves]
    assert not graded[0] & graded[1]


@pytest.mark.parametrize("field", ["rank", "final"])
def test_words_with_curves_of_their_own_are_told_apart_and_words_with_one_curve_are_not(field: str) -> None:
    rng = np.random.default_rng(1)
    own = [curved(power, rng) for power in (0.3, 0.6, 1.0, 2.0, 4.0, 8.0)]
    summary = measure_reliability(own, field, 200, 50, 0)
    assert summary is not None
    assert summary["identified"] > 0.9 > summary["between"]
    assert summary["within"] > 0.98
    assert summary["corrected_low"] < summary["corrected"] < 0.9
    assert summary["p"] == pytest.approx(1 / 201, abs=0.02)
    same = measure_reliability([curved(2.0, rng) for _ in range(6)], field, 200, 50, 0)
    assert same is not None
    assert same["corrected"] == pytest.approx(1, abs=0.01)
    assert same["p"] > 0.05


def test_reliability_is_uniform_where_all_words_have_one_curve() -> None:
    rng = np.random.default_rng(2)
    ps = []
    for _ in range(40):
        found = measure_reliability([curved(2.0, rng, noise=0.1) for _ in range(6)], "rank", 59, 1, 0)
        assert found is not None
        ps.append(found["p"])
    assert 0.35 < np.mean(ps) < 0.65


def test_the_prediction_is_the_path_of_the_contrast() -> None:
    """Streams of equal norm whose contrast keeps its direction: g̃ is its size by depth."""
    path = np.array([0.0, 0.1, 0.3, 0.6, 1.0])
    stream = np.zeros((len(TWO), LAYERS, WIDTH), np.float32)
    for i, prompt in enumerate(TWO):
        along = 0.5 * path * (1 if prompt.label.endswith("A") else -1)
        stream[i, :, 0], stream[i, :, 1] = along, np.sqrt(1 - along**2)
    found = predicted_shape(Activations(tuple(TWO), stream, stream), LAYERS - 1)
    np.testing.assert_allclose(found["one"], path, atol=1e-6)


@pytest.mark.parametrize("field", ["final", "rank"])
def test_controls_tell_a_planted_sense_from_none(field: str) -> None:
    activations = planted(TWO, sense=4.0)
    metrics, tables = run_controls(activations, LAYERS - 1, field, 1, 20, 99, 10, 0.9, seed=0)
    found = metrics["g"]
    tested = {
        f"{h}.{name}" for h in ("rank", "final") for name in SECONDARY if h == "final" or name not in OF_FINAL_ALONE
    }
    assert set(found["p"]) == {PRIMARY, *tested, *(f"auc.{name}" for name in metrics["decode"])}
    assert found["p"]["rank.f_max_mean"] == pytest.approx(15 / 100)  # the smallest there is, over 99 shuffles, by Holm
    assert found["rank"]["word_correlation_mean"] > found["rank"]["null_correlation_mean"]
    assert found["rank"]["p_f_max_mean"] == found["p"]["rank.f_max_mean"]
    nulls = {name for name in found if name.startswith("null_") and not name.endswith(("_low", "_high"))}
    assert {name: found[name] for name in nulls} == {name: found[field][name] for name in nulls}  # of one h
    assert found["predicted"]["own"] > 0.9
    assert found["auc_at_word"]["4"] > 0.9 > found["auc_before"]["4"]
    assert {row["panel"] for row in tables["controls"]} == {"g", "auc"}
    assert {row["panel"] for row in tables["nulls"]} == {"words", *NULLS}


def test_one_word_alone_has_no_correlation_and_no_primary_test() -> None:
    alone = planted(word_prompts("one"), sense=4.0)
    metrics, tables = run_controls(alone, LAYERS - 1, "final", 1, 5, 9, 5, 0.9, seed=0)
    found = metrics["g"]
    assert found["null_correlation_mean"] is found["before"]["rank_correlation_mean"] is None
    assert not {PRIMARY, "rank.word_correlation_mean"} & set(found["p"])
    assert "reliability" not in found
    assert "another_word" not in {row["panel"] for row in tables["nulls"]}


def test_what_weakens_a_list_is_counted_and_repeated_prompts_are_held_out() -> None:
    """One word as it should be; one with two direction prompts a sense; one without a gradient and with repeats."""
    third = word_prompts("three", direction=5, gradient=0)
    repeated = [
        Prompt("three", third[0].text, "condition", "neutral", 2),
        Prompt("three", third[1].text, "direction", "A", 5),
        Prompt("three", "direction B 5 three", "direction", "B", 5),
    ]
    of_both = [Prompt("one", "one and two", "direction", "B", 8), Prompt("two", "one and two", "gradient", "A", 2)]
    prompts = [*word_prompts("one"), *word_prompts("two", direction=2, gradient=2), *of_both, *third, *repeated]
    assert weaknesses(prompts) == {"few_direction_prompts": 2, "without_gradient": 1, "repeated_prompts": 2}
    assert weaknesses(TWO) == dict.fromkeys(weaknesses(TWO), 0)
    assert graded_words(prompts) == ["one", "two"]
    repeated = [prompt for prompt, again in zip(prompts, repeats(prompts), strict=True) if again]
    assert [(each.role, each.label) for each in repeated] == [("condition", "neutral"), ("direction", "A")]
    assert {word: len(pairs) for word, pairs in direction_pairs(prompts).items()} == {"one": 8, "three": 5}

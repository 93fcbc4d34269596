"""h, f, f_max and g: identities, planted factors that come back, and null models."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from permeation.frame.errors import PermeationError
from permeation.meaning import bootstrap
from permeation.meaning.factors import (
    Factors,
    WordResiduals,
    context_field,
    correlations,
    factorise,
    leave_one_out_mean,
    normalised,
    slope,
    word_residuals,
)
from permeation.meaning.likeness import compare_means, correlation, on_grid
from permeation.meaning.nulls import NULLS, draw_null
from permeation.meaning.shape import fit_shape, line_rows
from permeation.meaning.sigma import order_parameter
from tests.meaning.planted import TWO, planted, with_sigma, word_prompts

RNG = np.random.default_rng(0)
LAYERS, WIDTH = 4, 32
RANK = np.concatenate([np.arange(1, 6), -np.arange(1, 6)]) / 5


def walking(rng: np.random.Generator, sense: float) -> WordResiduals:
    """Random walks from one start; the sense adds to the prompts of A and B, more from layer to layer."""
    axis = rng.normal(size=WIDTH) / np.sqrt(WIDTH)
    sign = np.repeat([1, -1, 1, -1], (5, 5, 2, 2))
    walks = 2 + rng.normal(size=(30, LAYERS, WIDTH)).cumsum(axis=1)
    measured = walks[16:] + sense * sign[:, None, None] * np.linspace(0, 1, LAYERS)[:, None] * axis
    return WordResiduals(walks[:8, -1] + sense * axis, walks[8:16, -1] - sense * axis, measured, (5, 5, 2, 2), RANK)


def test_the_line_is_scipys_and_the_slope_is_its() -> None:
    h, sigma = RNG.normal(size=12), RNG.normal(size=(12, 3))
    f = slope(h, sigma)
    for layer, row in enumerate(line_rows("word", h, sigma)):
        fit = stats.linregress(h, sigma[:, layer])
        assert f[layer] == pytest.approx(fit.slope) == row["f"]
        assert (row["standard_error"], row["r_squared"]) == pytest.approx((fit.stderr, fit.rvalue**2))


def test_a_straight_line_is_explained_and_what_varies_by_rounding_alone_is_not() -> None:
    h = np.linspace(-1, 1, 8)
    sigma = np.stack([np.full(8, 0.3) + 1e-8 * np.random.default_rng(0).normal(size=8), 0.3 * h], axis=1)
    assert [row["r_squared"] for row in line_rows("word", h, sigma)] == [0, pytest.approx(1)]


def test_h_is_the_final_sigma_or_the_rank() -> None:
    sigma = RNG.normal(size=(3, 20, 5))
    h = context_field(sigma, np.zeros(20), "final")
    assert np.abs(h).max(axis=-1) == pytest.approx(1)
    assert slope(h, sigma)[:, -1] == pytest.approx(np.abs(sigma[..., -1]).max(axis=-1))
    np.testing.assert_array_equal(context_field(sigma, np.arange(20.0), "rank")[2], np.arange(20))


def test_g_is_the_slope_over_that_of_largest_size() -> None:
    assert normalised(np.array([0.1, 0.3, -0.6])) == pytest.approx([-1 / 6, -1 / 2, 1])
    assert (normalised(np.zeros(3)) == 0).all()


def test_planted_factors_are_found_again() -> None:
    """σ = h · f_max · g + noise: f_max and g come back, the product explains σ, and the intervals hold f_max."""
    rng = np.random.default_rng(4)
    g, f_max = np.array([0.0, 0.2, 0.5, 1.0]), np.array([0.3, 0.5, 0.4, 0.6, 0.35])
    h = np.concatenate([np.arange(1, 11), -np.arange(1, 11)]) / 10
    words = {str(each): with_sigma(np.outer(h, each * g) + 0.03 * rng.normal(size=(20, 4)), h, rng) for each in f_max}
    real = factorise(words.values(), "rank")
    assert np.abs(real.f).max(axis=-1) == pytest.approx(f_max, abs=0.05)
    np.testing.assert_allclose(real.mean_g, g, atol=0.05)
    assert real.decomposition_r2 > 0.95
    drawn = bootstrap.resample(words, "rank", 400, rng).f.max(axis=-1)
    low, high = bootstrap.interval(drawn)
    assert ((low < f_max) & (f_max < high)).mean() >= 0.8
    assert (high - low < 0.15).all()


def factors(g: Any, weights: Any = None) -> Factors:
    """Factors that have this g and nothing else."""
    words = g.shape[-2]
    return Factors((), g, np.zeros(g.shape[:-1]), np.ones(words) if weights is None else weights, 0.0, 0.0)


def test_statistics_are_those_of_the_mean_curve_and_of_the_pairs() -> None:
    g = np.linspace(0, 1, 13) ** 2
    g[-1] = 0.8
    found = factors(np.stack([g, g, g])).statistics(2)
    assert found["peak_depth"] == pytest.approx(11 / 12)
    assert found["final_drop"] == pytest.approx(1 - 0.8 / (11 / 12) ** 2)
    assert found["alpha"] == pytest.approx(2, rel=1e-3)
    assert found["word_correlation_mean"] == found["word_correlation_min"] == pytest.approx(1)
    with pytest.raises(PermeationError, match="exclude_final is 11, which leaves 1 of this model's 12 layers"):
        factors(np.stack([g])).statistics(11)


def test_increments_leave_the_last_step_out() -> None:
    g = RNG.normal(size=(3, 6))
    g[:, 2] = 9  # f_max, before and after the jump
    jumped = g + np.array([0, 0, 0, 0, 0, 7])
    found = [factors(each).statistics(1)["increment_correlation_mean"] for each in (g, jumped)]
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx(np.corrcoef(np.diff(g[:, :-1]))[np.triu_indices(3, k=1)].mean())


def test_draws_at_once_are_draws_one_by_one() -> None:
    words = [walking(RNG, 3.0) for _ in range(3)]
    sigmas = [order_parameter(word.measured, RNG.normal(size=(4, WIDTH))) for word in words]
    weights = RNG.integers(1, 4, size=(4, 3))
    together = factorise(words, "final", sigmas, weights).statistics(1)
    for i in range(4):
        alone = factorise(words, "final", [sigma[i] for sigma in sigmas], weights[i]).statistics(1)
        assert {k: v[i] for k, v in together.items()} == pytest.approx({k: float(v) for k, v in alone.items()})


def test_a_word_drawn_twice_is_that_word_twice() -> None:
    """Weights count words as repeated rows would, except that a word makes no pair with itself."""
    g = RNG.normal(size=(3, 6))
    weighted, repeated = factors(g, np.array([2, 1, 1])), factors(g[[0, 0, 1, 2]])
    np.testing.assert_allclose(weighted.mean_g, repeated.mean_g)
    correlation = np.corrcoef(repeated.g)[np.triu_indices(4, k=1)]  # pairs 00 01 02 01 02 12
    assert weighted.statistics(1)["word_correlation_mean"] == pytest.approx(correlation[1:].mean())
    assert (bootstrap.resample_words(3, 200, RNG).max(axis=1) < 3).all()


def test_leaving_one_out_leaves_it_out() -> None:
    g = RNG.normal(size=(4, 6))
    np.testing.assert_allclose(leave_one_out_mean(g, np.ones(4))[1], g[[0, 2, 3]].mean(axis=0))
    np.testing.assert_allclose(leave_one_out_mean(g, np.array([2, 1, 1, 0]))[1], g[[0, 0, 2]].mean(axis=0))
    np.testing.assert_array_equal(leave_one_out_mean(g[:1], np.ones(1)), g[:1])


def test_drift_out_is_what_is_left_when_each_words_mean_is_taken_out() -> None:
    words = [walking(RNG, 3.0) for _ in range(3)]
    sigmas = [word.sigma() for word in words]
    found = factorise(words, "rank")
    others = leave_one_out_mean(found.g, np.ones(3))
    f_max = found.f[np.arange(3), np.abs(found.f).argmax(axis=-1)]
    rebuilt = np.stack([np.outer(RANK, f_max[i] * others[i]) for i in range(3)])
    sigma = np.stack([each[:10] for each in sigmas])
    moved, product = (each - each.mean(axis=1, keepdims=True) for each in (sigma, rebuilt))
    assert found.decomposition_r2 == pytest.approx(1 - np.square(sigma - rebuilt).mean() / sigma.var())
    expected = 1 - np.square(moved - product).sum() / np.square(moved).sum()
    assert found.decomposition_r2_drift_out == pytest.approx(expected)
    drifting = factorise(words, "rank", [each + 5 * RNG.normal(size=LAYERS) for each in sigmas])
    assert drifting.decomposition_r2_drift_out == pytest.approx(expected)
    assert drifting.decomposition_r2 != pytest.approx(found.decomposition_r2)


def test_correlations_are_numpys() -> None:
    x, y = RNG.normal(size=(2, 3, 7))
    np.testing.assert_allclose(correlations(x, y), np.corrcoef(x, y)[:3, 3:])


def separation_p(words: list[WordResiduals], null: str, draws: int, rng: np.random.Generator) -> float:
    sigmas = None, NULLS[null](words, draws, rng)
    real, drawn = (factorise(words, "final", each).statistics(0)["separation_mean"] for each in sigmas)
    return bootstrap.permutation_p(float(real), drawn)


def test_random_walks_are_not_reported_as_meaning() -> None:
    """Without sense the shuffles' p-values are uniform (p is a multiple of 1/50; spread over its step)."""
    rng = np.random.default_rng(0)
    ps = [separation_p([walking(rng, 0.0), walking(rng, 0.0)], "senses_shuffled", 49, rng) for _ in range(200)]
    assert stats.kstest(np.array(ps) - rng.uniform(0, 0.02, 200), "uniform").pvalue > 0.01


@pytest.mark.parametrize("null", NULLS)
def test_a_planted_sense_is_reported(null: str) -> None:
    rng = np.random.default_rng(1)
    assert separation_p([walking(rng, 12.0) for _ in range(4)], null, 99, rng) <= 0.02


def test_a_null_model_draws_from_its_name() -> None:
    words = [walking(np.random.default_rng(5), 1.0)] * 2
    first, again = (draw_null("random_direction", words, 3, seed=0) for _ in range(2))
    other = draw_null("random_direction", words, 3, seed=1)
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_the_shape_has_its_tables() -> None:
    found, tables = fit_shape(word_residuals(planted(TWO, sense=4.0), 4), "final", 1, 20, 0)
    assert found["word_correlation_mean_low"] <= found["word_correlation_mean"] <= 1
    assert found["f_max_low"]["one"] < found["f_max"]["one"] < found["f_max_high"]["one"]
    assert next(row["g"] for row in tables["g"] if row["word"] == "mean") == pytest.approx(0, abs=0.2)
    assert {row["word"] for row in tables["response"]} == {"one", "two"}


def test_a_list_without_a_gradient_has_no_g() -> None:
    with pytest.raises(PermeationError, match="no word of the words file has gradient prompts of both senses"):
        word_residuals(planted(word_prompts("one", gradient=0), 1.0), 4)


def test_curves_are_like_themselves_on_any_grid() -> None:
    g = np.linspace(0, 1, 7) ** np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(on_grid(on_grid(g, 13), 7), g)
    assert list(compare_means(g, g, 20, RNG).values()) == pytest.approx([1, 1, 1])
    np.testing.assert_allclose(correlation(g[:2], g[1:]), [np.corrcoef(g[i], g[i + 1])[0, 1] for i in range(2)])

"""Null models, intervals and compared revisions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from permeation.frame.errors import PermeationError
from permeation.meaning import bootstrap
from permeation.meaning.controls import permutation_p
from permeation.meaning.factors import WordResiduals, factorise_words, real_sigmas
from permeation.meaning.nulls import NULLS, draw_null
from permeation.report.results import Place, Results
from permeation.report.revisions import Revision, RevisionPair

LAYERS, WIDTH = 4, 32


def word(rng: np.random.Generator, sense: float) -> WordResiduals:
    """Random walks from one start; the sense adds to the prompts of A and B, more from layer to layer."""
    axis = rng.normal(size=WIDTH) / np.sqrt(WIDTH)
    sign = np.repeat([1, -1, 1, -1], (5, 5, 2, 2))
    walks = 2 + rng.normal(size=(30, LAYERS, WIDTH)).cumsum(axis=1)
    measured = walks[16:] + sense * sign[:, None, None] * np.linspace(0, 1, LAYERS)[:, None] * axis
    return WordResiduals(
        sense_a=walks[:8, -1] + sense * axis,
        sense_b=walks[8:16, -1] - sense * axis,
        measured=measured,
        counts=(5, 5, 2, 2),
        rank=np.concatenate([np.arange(1, 6), -np.arange(1, 6)]) / 5,
    )


def separation_p(words: list[WordResiduals], null: str, draws: int, rng: np.random.Generator) -> float:
    real = factorise_words(words, real_sigmas(words, "final"), "final").statistics(0)["separation_mean"][0]
    drawn = factorise_words(words, NULLS[null](words, "final", draws, rng), "final").statistics(0)["separation_mean"]
    return permutation_p(float(real), drawn)


def test_random_walks_are_not_reported_as_meaning() -> None:
    """Without sense the shuffles' p-values are uniform (p is a multiple of 1/50; spread over its step)."""
    rng = np.random.default_rng(0)
    ps = [separation_p([word(rng, 0.0), word(rng, 0.0)], "senses_shuffled", 49, rng) for _ in range(200)]
    assert stats.kstest(np.array(ps) - rng.uniform(0, 0.02, 200), "uniform").pvalue > 0.01


@pytest.mark.parametrize("null", NULLS)
def test_a_planted_sense_is_reported(null: str) -> None:
    rng = np.random.default_rng(1)
    assert separation_p([word(rng, 12.0) for _ in range(4)], null, 99, rng) <= 0.02


def test_half_of_a_single_prompt_is_an_error() -> None:
    whole = word(np.random.default_rng(0), 1.0)
    few = replace(whole, sense_a=whole.sense_a[:3])
    with pytest.raises(
        PermeationError, match=r"response.field is heldout, .* accepted: at least 4 prompts of each sense"
    ):
        draw_null("within_senses", [few], "heldout", 2, 0)
    draw_null("within_senses", [replace(whole, sense_a=whole.sense_a[:4])], "heldout", 2, 0)


def test_a_null_model_draws_from_its_name() -> None:
    """Whatever else is drawn, and whatever other null models there are."""
    words = [word(np.random.default_rng(5), 1.0)] * 2
    first, again = (draw_null("random_direction", words, "final", 3, seed=0) for _ in range(2))
    other = draw_null("random_direction", words, "final", 3, seed=1)
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_the_interval_holds_the_planted_separation() -> None:
    rng = np.random.default_rng(2)
    words = [word(rng, 12.0) for _ in range(6)]
    real = factorise_words(words, real_sigmas(words, "final"), "final").statistics(0)["separation_mean"][0]
    low, high = bootstrap.interval(bootstrap.resample(words, "final", 300, rng).statistics(0)["separation_mean"])
    assert low < real < high


def test_a_revision_is_like_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    revision = Revision(
        Results(Place("a", tmp_path)), {}, {name: rng.normal(size=7) for name in ("bank", "bat", "rock")}
    )
    comparison = RevisionPair.between(revision, revision, seed=0)
    for likeness in (comparison.mean, *comparison.words.values()):
        assert likeness.correlation == pytest.approx(1)
        assert likeness.rmse == 0


def test_planted_factors_are_within_their_intervals() -> None:
    """σ = h · f_max · g + noise, as residuals with that cosine to the contrast: f_max and g come back."""
    rng = np.random.default_rng(4)
    g, planted = np.array([0.0, 0.2, 0.5, 1.0]), np.array([0.3, 0.5, 0.4, 0.6, 0.35])
    rank = np.concatenate([np.arange(1, 11), -np.arange(1, 11)]) / 10
    h = np.concatenate([rank, [1, 1, -1, -1]])

    def planted_word(f_max: float) -> WordResiduals:
        sigma = np.outer(h, f_max * g) + 0.03 * rng.normal(size=(len(h), LAYERS))
        across = rng.normal(size=(len(h), LAYERS, WIDTH - 1))
        across *= np.sqrt(1 - sigma**2)[..., None] / np.linalg.norm(across, axis=-1, keepdims=True)
        end = np.eye(WIDTH)[0] + 1e-3 * rng.normal(size=(16, WIDTH))
        return WordResiduals(
            sense_a=end[:8],
            sense_b=-end[8:],
            measured=np.concatenate([sigma[..., None], across], axis=-1),
            counts=(10, 10, 2, 2),
            rank=rank,
        )

    words = [planted_word(f_max) for f_max in planted]
    drawn = bootstrap.resample(words, "rank", 400, rng).factors
    low, high = bootstrap.interval(drawn.f_max)
    assert ((low < planted) & (planted < high)).mean() >= 0.8
    assert (high - low < 0.15).all()
    real = factorise_words(words, real_sigmas(words, "rank"), "rank").factors
    np.testing.assert_allclose(real.f_max[0], planted, atol=0.05)
    np.testing.assert_allclose(real.g[0].mean(axis=0), g, atol=0.05)

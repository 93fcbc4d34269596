"""Senses decoded from residuals: planted ones are found, and where there are none nothing is."""

import numpy as np
import pytest
from scipy import stats

from permeation.meaning.decode import held_out, leave_pair_out, p_values
from permeation.meaning.sigma import unit

IS_A = np.arange(16) < 8


def residuals(rng: np.random.Generator, sense: float, twins: float = 0.0) -> np.ndarray:
    """16 prompts, 3 layers, 24 dimensions; the sense from layer 1 on; what twins share at every layer."""
    shared = np.tile(rng.normal(size=(8, 3, 24)), (2, 1, 1))
    strength = sense * np.where(IS_A, 1, -1)[:, None] * np.array([0, 1, 1])
    return rng.normal(size=(16, 3, 24)) + twins * shared + strength[..., None] * unit(np.ones(24)) + 1.0


def test_the_score_is_that_of_the_contrast_without_the_pairs_places() -> None:
    rng = np.random.default_rng(0)
    residual = residuals(rng, 1.0)
    found = leave_pair_out(residual, residual, IS_A, 1, rng)
    a, b = residual[:8], residual[8:]
    kept = [k for k in range(8) if k not in (2, 5)]
    direction = a[kept].mean(axis=0) - b[kept].mean(axis=0)
    norm = np.linalg.norm(a.mean(axis=0) - b.mean(axis=0), axis=-1)
    expected = ((unit(a[2]) - unit(b[5])) * direction).sum(axis=-1) / norm
    np.testing.assert_allclose(found.differences[2, 5], expected)


def test_a_planted_sense_is_decoded_where_it_is() -> None:
    rng = np.random.default_rng(1)
    residual = residuals(rng, 4.0, twins=1.0)
    for source in (residual, residual[:, -1:]):
        found = leave_pair_out(residual, source, IS_A, 200, rng)
        _, anywhere = p_values(found.auc, found.permuted)
        assert (found.auc[1:] > 0.95).all()
        assert (found.d_prime[1:] > 2).all()
        assert (anywhere[1:] < 0.05).all()


@pytest.mark.parametrize("twins", [0.0, 3.0])
def test_without_sense_the_auc_is_a_half_and_p_is_uniform(twins: float) -> None:
    """Also where the prompts at the same place resemble each other."""
    rng = np.random.default_rng(2)
    aucs, ps = [], []
    for _ in range(200):
        residual = residuals(rng, 0.0, twins)
        found = leave_pair_out(residual, residual[:, -1:], IS_A, 39, rng)
        aucs.append(found.auc[1])
        null = found.permuted[:, 1]
        # Ties (few pairs give few values) are broken at random: p is then exactly uniform, not only no smaller.
        ties = rng.uniform() * (1 + np.sum(null == found.auc[1]))
        ps.append((np.sum(null > found.auc[1]) + ties) / (1 + len(null)))
        assert ps[-1] <= p_values(found.auc, found.permuted)[0][1]
    assert abs(np.mean(aucs) - 0.5) < 4 * stats.sem(aucs)
    assert stats.kstest(ps, "uniform").pvalue > 0.01


def test_held_out_prompts_without_sense_give_a_half() -> None:
    rng = np.random.default_rng(3)
    aucs = [held_out(residuals(rng, 0.0), unit(rng.normal(size=(1, 24))), IS_A, 1, rng).auc[1] for _ in range(200)]
    assert abs(np.mean(aucs) - 0.5) < 4 * stats.sem(aucs)
    assert held_out(residuals(rng, 5.0), unit(np.ones((1, 24))), IS_A, 1, rng).auc[1] == 1


def test_one_and_the_same_residual_tells_nothing() -> None:
    same = np.ones((16, 2, 24), np.float32)
    found = leave_pair_out(same, same, IS_A, 3, np.random.default_rng(0))
    assert (found.auc == 0.5).all()
    assert (found.d_prime == 0).all()

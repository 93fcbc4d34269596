"""Senses decoded from residuals: planted ones are found, and where there are none nothing is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import Activations
from permeation.meaning.bootstrap import permutation_p
from permeation.meaning.decode import decode_words, held_out, leave_pair_out
from permeation.meaning.sigma import unit
from tests.meaning.planted import TWO, planted, word_prompts

SIGN = np.repeat([1, -1], 8)


def residuals(rng: np.random.Generator, sense: float, twins: float = 0.0) -> np.ndarray:
    """16 prompts, 3 layers, 24 dimensions; the sense from layer 1 on; what twins share at every layer."""
    shared = np.tile(rng.normal(size=(8, 3, 24)), (2, 1, 1))
    strength = sense * SIGN[:, None] * np.array([0, 1, 1])
    return rng.normal(size=(16, 3, 24)) + twins * shared + strength[..., None] * unit(np.ones(24)) + 1.0


def test_the_score_is_that_of_the_contrast_without_the_pairs_places() -> None:
    rng = np.random.default_rng(0)
    residual = residuals(rng, 1.0)
    found = leave_pair_out(residual, residual, 1, rng)
    a, b = residual[:8], residual[8:]
    norm = np.linalg.norm(a.mean(axis=0) - b.mean(axis=0), axis=-1)
    for i, j in ((2, 5), (5, 2), (3, 3)):
        kept = [k for k in range(8) if k not in (i, j)]
        direction = a[kept].mean(axis=0) - b[kept].mean(axis=0)
        expected = ((unit(a[i]) - unit(b[j])) * direction).sum(axis=-1) / norm
        np.testing.assert_allclose(found.differences[i, j], expected)


def test_a_planted_sense_is_decoded_where_it_is() -> None:
    rng = np.random.default_rng(1)
    residual = residuals(rng, 4.0, twins=1.0)
    for source in (residual, residual[:, -1:]):
        found = leave_pair_out(residual, source, 200, rng)
        assert (found.auc[1:] > 0.95).all()
        assert permutation_p(found.auc.max(), found.permuted.max(axis=1)) < 0.05


@pytest.mark.parametrize("twins", [0.0, 3.0])
def test_without_sense_the_auc_is_a_half_and_p_is_uniform(twins: float) -> None:
    """Also where the prompts at the same place resemble each other."""
    rng = np.random.default_rng(2)
    aucs, ps = [], []
    for _ in range(200):
        residual = residuals(rng, 0.0, twins)
        found = leave_pair_out(residual, residual[:, -1:], 39, rng)
        aucs.append(found.auc[1])
        null = found.permuted[:, 1]
        # Ties (few pairs give few values) are broken at random: p is then exactly uniform, not only no smaller.
        ties = rng.uniform() * (1 + np.sum(null == found.auc[1]))
        ps.append((np.sum(null > found.auc[1]) + ties) / (1 + len(null)))
        assert ps[-1] <= permutation_p(found.auc[1], null)
    assert abs(np.mean(aucs) - 0.5) < 4 * stats.sem(aucs)
    assert stats.kstest(ps, "uniform").pvalue > 0.01


def test_held_out_prompts_without_sense_give_a_half() -> None:
    rng = np.random.default_rng(3)
    aucs = [held_out(residuals(rng, 0.0), unit(rng.normal(size=(1, 24))), 8, 1, rng).auc[1] for _ in range(200)]
    assert abs(np.mean(aucs) - 0.5) < 4 * stats.sem(aucs)
    assert held_out(residuals(rng, 5.0), unit(np.ones((1, 24))), 8, 1, rng).auc[1] == 1


def test_one_and_the_same_residual_tells_nothing() -> None:
    same = np.ones((16, 2, 24), np.float32)
    assert (leave_pair_out(same, same, 3, np.random.default_rng(0)).auc == 0.5).all()


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


def test_a_word_is_decoded_by_the_tests_that_it_has_prompts_for() -> None:
    prompts = [*TWO, *word_prompts("short", direction=2), *word_prompts("bare", gradient=0)]
    activations = planted(prompts, 4.0)
    decoded = {test: decode_words(activations, 4, test, "final", 5, 5, 0) for test in ("direction", "gradient")}
    assert list(decoded["direction"].words) == ["one", "two", "bare"]
    assert list(decoded["gradient"].words) == ["one", "two", "short"]
    assert {row["word"] for row in decoded["direction"].rows()} == {"one", "two", "bare", "mean"}
    assert all(each.auc.max() > 0.9 for each in decoded["direction"].words.values())
    with pytest.raises(PermeationError, match="no word of the words file has the gradient prompts that decoding"):
        decode_words(planted(word_prompts("one", gradient=0), 1.0), 4, "gradient", "own", 1, 1, 0)

"""Which heads bring the sense: a planted head is found, and no other; chance is what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.heads.found import (
    SERIES,
    FoundHeads,
    agreement,
    beside_chance,
    family_wise_p,
    low_variance_shares,
    rank_beside,
    reliability,
)
from permeation.heads.roles import KINDS, WordRoles, causal_share, measure_roles, substitutes
from permeation.meaning.activations import Activations
from permeation.meaning.residuals import residuals_at
from permeation.meaning.words import Prompt
from permeation.models.families import attention_outputs
from permeation.weights.pca import fit_pca
from tests.support import tiny

PLANTED = (0, 1)  # layer and head
PAIRS = 6


def measure_planted(most_pairs: int, least_auc: float) -> dict[str, WordRoles | None]:
    """Words whose prompts differ in the token that decides, before a filler; one head alone writes anything.

    The third word's senses differ in nothing.
    """
    model = tiny.model("llama")
    with torch.no_grad():
        for layer, place in enumerate(attention_outputs(model)):
            for head, W_O in enumerate(place.W_O):
                W_O *= 5 if (layer, head) == PLANTED else 0
    prompts, sequences = [], []
    for word, last, other in (("one", 7, 40), ("two", 8, 40), ("three", 9, 20)):
        for sense, decides in (("A", 20), ("B", other)):
            for rank in range(PAIRS):
                prompts.append(Prompt(word, f"{sense} {rank} {word}", "direction", sense, rank))
                sequences.append([1, decides, 60 + rank, last])
    ((_, residual),) = residuals_at(model, sequences, [[3]] * len(sequences), len(sequences))
    stream = residual[:, 0]
    return measure_roles(model, Activations(tuple(prompts), stream, stream), sequences, most_pairs, least_auc, 0)


@pytest.fixture(scope="module")
def planted() -> dict[str, WordRoles]:
    found = measure_planted(PAIRS, 0.9)
    assert found.pop("three") is None
    return {word: roles for word, roles in found.items() if roles is not None}


def test_the_planted_head_alone_brings_the_sense(planted: dict[str, WordRoles]) -> None:
    found = FoundHeads.of(planted, 50, 200, 0)
    others = np.ones((tiny.LAYERS, tiny.HEADS), dtype=bool)
    others[PLANTED] = False
    # Nothing else reaches the word, so the exchange makes it the other prompt's.
    assert found.maps["exchange"][PLANTED] == pytest.approx(1, abs=1e-3)
    assert found.p["exchange"][PLANTED] <= 3 / 201  # of 4096 signs of the pairs two are as far from 0
    np.testing.assert_allclose(found.maps["exchange"][others], 0, atol=1e-4)
    assert found.maps["direct"][PLANTED] > 0.05
    assert found.p["direct"][others].min() == 1  # it writes 0
    assert abs(found.maps["within_sense"][PLANTED]) < 0.1
    assert found.p["within_sense"].min() > 0.05
    for each in planted.values():  # what decides is not the only token behind the first
        assert (each.attention["attention"] > 0).all()
        assert (each.attention["attention"] < each.attention["attention_not_bos"]).all()


def test_the_summary_names_it(planted: dict[str, WordRoles]) -> None:
    found = FoundHeads.of(planted | {"three": None}, 50, 200, 0)
    assert len(found.rows()) == len(SERIES) * tiny.LAYERS * tiny.HEADS
    summary = found.summary()
    assert summary["unmeasurable_words"] == ["three"]
    largest = summary["largest"]
    assert (largest["head"], largest["p"]) == ("0.1", found.p["exchange"][PLANTED])
    assert largest["words"] == {word: pytest.approx(1, abs=1e-3) for word in ("one", "two")}
    assert largest["low"] - 1e-6 <= largest["share"] <= largest["high"] + 1e-6
    assert (summary["words"], summary["pairs"], summary["half"]) == (2, 2 * PAIRS, 1)
    assert summary["heads"]["within_sense"] == 0
    assert summary["top_controls"]["within_sense"] < 0.1
    assert summary["agreement"]["value"] > summary["agreement"]["null"]


def test_an_interval_is_of_the_figure_that_it_stands_beside(planted: dict[str, WordRoles]) -> None:
    """A word with a third of the pairs counts a third in a resample, too; of two words each resample has both."""
    one, two = planted.values()
    few = replace(two, causal=0 * two.causal[:, :2], direct=two.direct[:2])
    found = FoundHeads.of({"one": one, "two": few}, 400, 20, 0)
    strongest = float(found.maps["exchange"].max())
    top = found.summary()["top"]
    assert strongest == pytest.approx(PAIRS / (PAIRS + 2), abs=1e-3)
    assert (top["low"], top["high"]) == (pytest.approx(strongest, abs=1e-3), pytest.approx(strongest, abs=1e-3))


def test_without_a_word_that_can_be_measured_there_is_an_error() -> None:
    with pytest.raises(PermeationError, match=r"no word's senses differ in the next token: AUC 1.00; accepted: 1.1"):
        measure_planted(PAIRS, 1.1)


def test_fewer_pairs_are_the_first_with_the_same_references(planted: dict[str, WordRoles]) -> None:
    found = measure_planted(3, 0.9)
    for word in planted:
        each = found[word]
        assert each is not None
        gap = [1 / roles.causal[KINDS.index("exchange"), 0, *PLANTED] for roles in (each, planted[word])]
        np.testing.assert_allclose(each.causal * gap[0], planted[word].causal[:, :3] * gap[1], atol=1e-4)
        np.testing.assert_array_equal(each.direct, planted[word].direct)


def test_what_stands_in_for_a_head() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((8, 2, 3, 5))
    new = dict(zip(KINDS, np.moveaxis(substitutes(z, rng), 1, 0), strict=True))
    np.testing.assert_array_equal(new["exchange"][[1, 5]], z[[5, 1]])
    np.testing.assert_array_equal(new["within_sense"][[3, 7]], z[[0, 4]])
    moved = new["random"] - z
    np.testing.assert_allclose(np.linalg.norm(moved, axis=-1), np.linalg.norm(new["exchange"] - z, axis=-1))
    np.testing.assert_allclose(moved[:4], -moved[4:])
    assert np.abs((moved * (new["exchange"] - z)).sum(axis=-1) / np.square(moved).sum(axis=-1)).max() < 0.999


def test_a_share_is_1_where_all_follows_and_0_where_nothing_does() -> None:
    clean = np.array([3.0, 2.0, -1.0, 0.0])
    shares = causal_share(clean, np.stack([np.roll(clean, 2), clean], axis=1))
    np.testing.assert_allclose(shares.mean(axis=0), [1, 0])


def test_chance_alone_is_rarely_found_and_an_effect_nearly_always() -> None:
    rng = np.random.default_rng(1)
    alarms, hits = 0, 0
    for _ in range(100):
        values = rng.standard_normal((30, 40)) * rng.uniform(0.1, 10, 40)  # heads differ in size
        alarms += family_wise_p(values, 200, rng).min() < 0.05
        values[:, 0] += 1.5 * values[:, 0].std()
        hits += family_wise_p(values, 200, rng)[0] < 0.05
    assert alarms <= 12
    assert hits >= 95


def test_maps_that_agree_beyond_depth_are_told_from_those_that_do_not() -> None:
    rng = np.random.default_rng(2)
    depth = np.arange(10.0)[:, None]
    own = rng.standard_normal((10, 8))
    alike = agreement(np.stack([depth + own + 0.1 * rng.standard_normal((10, 8)) for _ in range(3)]), 300, rng)
    depth_only = agreement(depth + rng.standard_normal((3, 10, 8)), 300, rng)
    assert alike["p"] < 0.01
    assert depth_only["value"] > 0.5
    assert depth_only["null_low"] < depth_only["value"] < depth_only["null_high"]


def test_a_word_agrees_with_itself_more_than_with_another() -> None:
    rng = np.random.default_rng(5)
    own = rng.standard_normal((3, 10, 8))
    found = reliability(own + 0.2 * rng.standard_normal((2, 3, 10, 8)))
    assert found["reliability"] > 0.9
    assert abs(found["between_halves"]) < 0.2


def test_what_depth_makes_is_gone_within_layers() -> None:
    rng = np.random.default_rng(3)
    depth = np.arange(20.0)[:, None]
    role, other = depth + rng.standard_normal((2, 20, 9))
    found = rank_beside(role, other, 200, 300, rng)
    assert found["value"] > 0.9
    assert found["p"] < 0.01
    assert found["low"] < found["value"] < found["high"]
    alarms = 0
    for _ in range(20):
        role, other = depth + rng.standard_normal((2, 20, 9))
        alarms += rank_beside(role, other, 2, 100, rng)["within_layers"]["p"] < 0.05
    assert alarms <= 4
    assert rank_beside(role, other + 2 * role, 2, 100, rng)["within_layers"]["p"] < 0.05
    assert rank_beside(role, role**3, 20, 300, rng)["value"] == 1
    assert rank_beside(role, np.ones((20, 9)), 20, 20, rng)["value"] == 0


def test_shares_of_the_spectrum() -> None:
    """Heads along one common direction, but for the last, which is alone on a component of low variance."""
    M = np.zeros((6, 4))
    M[:5, 0], M[5, 1] = 3, 0.5
    pca = fit_pca(torch.tensor(M @ M.T), center=False)
    np.testing.assert_allclose(low_variance_shares(pca, 0.9), [0, 0, 0, 0, 0, 1], atol=1e-12)


def test_a_p_value_counts_what_is_as_far_from_0() -> None:
    drawn = np.array([-3.0, -1.0, 0.0, 1.0])
    assert beside_chance(2.0, drawn)["p"] == 2 / 5
    assert beside_chance(2.0, drawn, rising=True)["p"] == 1 / 5

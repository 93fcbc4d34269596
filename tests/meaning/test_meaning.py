"""The meaning axis: identities, and planted answers that are found again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from permeation.frame.errors import PermeationError
from permeation.meaning.laws import F_LAWS, G_LAWS, LAWS, PUBLISHED_G_LAWS, fit_law, fit_laws, power_exponent
from permeation.meaning.residuals import before_word, residuals_at, tokenize, without_unseen_mean
from permeation.meaning.response import breakdown_field, context_field, linear_response
from permeation.meaning.seeds import named_generator
from permeation.meaning.sigma import (
    centred_order_parameter,
    collapse_variance,
    contrast,
    layer_index,
    midpoint,
    order_parameter,
    published_collapse_variance,
)
from permeation.meaning.universality import Factorisation, factorise, leave_one_out_mean, pairwise_correlation
from permeation.meaning.words import Prompt
from permeation.models.load import load_bridge, load_model
from permeation.models.tokenizer import load_tokenizer
from tests.support import tiny

RNG = np.random.default_rng(0)
PROMPTS = [
    "She bank",
    "He was refused a mortgage after two long interviews at the bank",
    "They paid off the last of their student loans at the bank",
    "The bank",
    "He waded out of the cold current and collapsed upon the bank",
]


def residuals(checkpoint: Path, batch_size: int, prepend_bos: bool = True) -> np.ndarray:
    bridge = load_bridge(checkpoint, torch.device("cpu"))
    sequences = tokenize(bridge.tokenizer, PROMPTS, prepend_bos)
    found = np.empty((len(PROMPTS), tiny.LAYERS + 1, tiny.WIDTH), np.float32)
    positions = [[len(sequence) - 1] for sequence in sequences]
    for batch, values in residuals_at(bridge, sequences, positions, batch_size):
        found[batch] = values[:, 0]
    return found


@pytest.mark.parametrize(
    ("norm", "unseen"),
    [
        (torch.nn.LayerNorm(8), True),
        (CohereLayerNorm(8), True),  # of another class than PyTorch's
        (LlamaRMSNorm(8), False),
        (torch.nn.Linear(8, 4), False),
        (torch.nn.Identity(), False),
    ],
)
def test_a_mean_that_the_final_norm_takes_out_is_not_seen(
    norm: torch.nn.Module, unseen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permeation.meaning.residuals.final_norm", lambda _: norm)
    stream = RNG.normal(size=(3, 8)).astype(np.float32)
    found = without_unseen_mean(torch.nn.Linear(1, 1), stream)
    np.testing.assert_array_equal(found, stream - stream.mean(axis=1, keepdims=True) if unseen else stream)


def test_a_padded_batch_gives_what_single_prompts_give(checkpoint: Path) -> None:
    np.testing.assert_allclose(residuals(checkpoint, 5), residuals(checkpoint, 1), rtol=1e-5, atol=1e-5)


def test_residuals_are_those_of_plain_transformers(checkpoint: Path, family: str) -> None:
    found = residuals(checkpoint, 3)
    plain, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    for text, mine in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids]])
        # The last of transformers' hidden states has the final norm applied, so it is left out here.
        theirs = torch.stack(plain(ids, output_hidden_states=True).hidden_states[:-1])[:, 0, -1].numpy()
        if family != "llama":
            theirs = theirs - theirs.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(mine[:-1], theirs, atol=1e-5)


def test_residuals_are_those_of_a_bridge_with_centred_writing_weights(checkpoint: Path) -> None:
    bridge = load_bridge(checkpoint, torch.device("cpu"))
    bridge.enable_compatibility_mode(disable_warnings=True)
    ids = torch.tensor(tokenize(bridge.tokenizer, PROMPTS[1:2], prepend_bos=True))
    _, cache = bridge.run_with_cache(ids)
    theirs = [cache["blocks.0.hook_resid_pre"], *(cache[f"blocks.{i}.hook_resid_post"] for i in range(tiny.LAYERS))]
    np.testing.assert_allclose(residuals(checkpoint, 2)[1], [t[0, -1].numpy() for t in theirs], atol=1e-4)


def test_a_bos_that_the_tokenizer_lacks_is_an_error() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token = None
    with pytest.raises(PermeationError, match="no BOS token; accepted: false"):
        tokenize(tokenizer, PROMPTS, prepend_bos=True)
    assert len(tokenize(tokenizer, PROMPTS, prepend_bos=False)[0]) == 2


def prompt(text: str) -> Prompt:
    return Prompt(text.split()[-1], text, "direction", "A", 0)


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_the_token_before_the_word_is_the_last_of_the_prompt_without_it(prepend_bos: bool) -> None:
    sequences = tokenize(tiny.tokenizer(), PROMPTS, prepend_bos)
    places = before_word(tiny.tokenizer(), [prompt(text) for text in PROMPTS], sequences)
    assert places == [len(sequence) - 2 for sequence in sequences]


class InPieces:
    """A tokenizer whose last two characters are tokens of their own, and that merges the blank before them away."""

    def __call__(self, texts: Any, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        single = isinstance(texts, str)
        ids = [[hash(text[:-2]), *map(ord, text[-2:])] for text in ([texts] if single else texts)]
        return SimpleNamespace(input_ids=ids[0] if single else ids)


def test_a_prompt_without_a_token_before_its_word_is_an_error() -> None:
    texts = ["a bank", "the bank"]
    with pytest.raises(PermeationError, match="'a bank' has no token in front of 'bank'"):
        before_word(InPieces(), [prompt(text) for text in texts], InPieces()(texts, add_special_tokens=False).input_ids)


def test_a_position_is_read_where_it_is(checkpoint: Path) -> None:
    """The token before the word is the last one of the prompt that is cut there."""
    bridge = load_bridge(checkpoint, torch.device("cpu"))
    sequences = tokenize(bridge.tokenizer, PROMPTS[1:3], prepend_bos=True)
    ((_, both),) = residuals_at(bridge, sequences, [(len(s) - 1, len(s) - 2) for s in sequences], 2)
    cut = [sequence[:-1] for sequence in sequences]
    ((_, alone),) = residuals_at(bridge, cut, [[len(s) - 1] for s in cut], 2)
    np.testing.assert_allclose(both[:, 1], alone[:, 0], atol=1e-5)


def test_a_name_seeds_its_own_numbers() -> None:
    first, again, other = (named_generator(3, name).normal() for name in ("a", "a", "b"))
    assert first == again != other


def test_layers_are_counted_from_either_end() -> None:
    assert [layer_index(layer, 5) for layer in (0, 4, -1, -5)] == [0, 4, 4, 0]
    for outside in (5, -6):
        with pytest.raises(PermeationError, match=rf"direction_layer is {outside}; accepted for this model: -5 to 4"):
            layer_index(outside, 5)


def test_sigma_of_the_contrast_itself_is_one_and_of_its_mirror_minus_one() -> None:
    a, b = RNG.normal(size=(2, 8, 16))
    direction = contrast(a, b)
    assert np.linalg.norm(direction) == pytest.approx(1)
    sigma = order_parameter(np.stack([3 * direction, -direction, 0 * direction])[:, None], direction)
    np.testing.assert_allclose(sigma[:, 0], [1, -1, 0], atol=1e-12)


def test_swapping_the_senses_turns_sigma_around() -> None:
    a, b = RNG.normal(size=(2, 8, 4, 16))
    probe = RNG.normal(size=(5, 4, 16))
    forth = centred_order_parameter(probe, contrast(a, b), midpoint(a, b))
    back = centred_order_parameter(probe, contrast(b, a), midpoint(b, a))
    np.testing.assert_allclose(forth, -back, atol=1e-12)


def test_centred_sigma_does_not_see_what_the_senses_share() -> None:
    a, b = RNG.normal(size=(2, 8, 4, 16))
    probe, common = RNG.normal(size=(5, 4, 16)), 100 * RNG.normal(size=(4, 16))
    plain = centred_order_parameter(probe, contrast(a, b), midpoint(a, b))
    moved = centred_order_parameter(probe + common, contrast(a + common, b + common), midpoint(a + common, b + common))
    np.testing.assert_allclose(plain, moved, atol=1e-9)


def test_a_contrast_of_nothing_has_no_direction() -> None:
    same = np.ones((3, 2, 4))
    assert (contrast(same, same) == 0).all()
    assert (centred_order_parameter(same, contrast(same, same), midpoint(same, same)) == 0).all()


def test_the_response_is_scipys_regression() -> None:
    h, sigma = RNG.normal(size=12), RNG.normal(size=(12, 3))
    response = linear_response(h, sigma)
    for layer in range(3):
        fit = stats.linregress(h, sigma[:, layer])
        assert response.slope[layer] == pytest.approx(fit.slope)
        assert response.intercept[layer] == pytest.approx(fit.intercept)
        assert response.r_squared[layer] == pytest.approx(fit.rvalue**2)
        assert response.standard_error[layer] == pytest.approx(fit.stderr)


def test_a_planted_factorisation_is_found_again() -> None:
    g = np.linspace(0, 1, 13) ** 2
    g[-1] = 0.8
    strengths = {0.5: np.linspace(-1, 1, 20), 0.2: np.linspace(-1, 0.6, 20), 0.3: np.linspace(-0.9, 1, 20)}
    fields = [h / np.abs(h).max() for h in strengths.values()]
    found = factorise(fields, [np.outer(h, f_max * g / g.max()) for f_max, h in zip(strengths, fields, strict=True)])
    assert found.f_max == pytest.approx(list(strengths))
    np.testing.assert_allclose(found.g, np.tile(g / g.max(), (3, 1)), atol=1e-12)
    assert found.decomposition_r2 == pytest.approx(1)
    assert found.peak_depth == pytest.approx(11 / 12)
    assert found.final_drop == pytest.approx(1 - 0.8 / (11 / 12) ** 2)
    assert pairwise_correlation(found.g) == pytest.approx([1, 1, 1])


def test_the_final_field_is_one_at_its_strongest_prompt() -> None:
    sigma = RNG.normal(size=(1, 20, 5))
    h, rows = context_field(sigma, np.zeros(20), "final")
    assert np.abs(h).max() == pytest.approx(1)
    response = linear_response(h, rows)
    assert response.r_squared[-1] == pytest.approx(1)
    assert response.slope[-1] == pytest.approx(np.abs(sigma[0, :, -1]).max())


def test_a_held_out_field_is_that_of_the_other_fold() -> None:
    sigma = RNG.normal(size=(3, 2, 8, 5))
    h, rows = context_field(sigma, np.zeros(8), "heldout")
    np.testing.assert_array_equal(rows[:, :8], sigma[:, 0])
    np.testing.assert_allclose(h[:, :8], sigma[:, 1, :, -1] / np.abs(sigma[:, 1, :, -1]).max(axis=1, keepdims=True))
    np.testing.assert_allclose(h[:, 8:], sigma[:, 0, :, -1] / np.abs(sigma[:, 0, :, -1]).max(axis=1, keepdims=True))


def test_draws_at_once_are_draws_one_by_one() -> None:
    h, sigma, weights = RNG.normal(size=(4, 3, 10)), RNG.normal(size=(4, 3, 10, 6)), RNG.integers(1, 4, size=(4, 3))
    together = factorise(list(h.swapaxes(0, 1)), list(sigma.swapaxes(0, 1)), weights).statistics(1)
    for i in range(4):
        alone = factorise(list(h[i]), list(sigma[i]), weights[i]).statistics(1)
        assert {k: v[i] for k, v in together.items()} == pytest.approx({k: float(v) for k, v in alone.items()})


def test_a_word_drawn_twice_is_that_word_twice() -> None:
    """Weights count words as repeated rows would, except that a word makes no pair with itself."""
    h, sigma = RNG.normal(size=(3, 10)), RNG.normal(size=(3, 10, 6))
    weighted = factorise(list(h), list(sigma), np.array([2, 1, 1]))
    repeated = factorise(list(h[[0, 0, 1, 2]]), list(sigma[[0, 0, 1, 2]]))
    np.testing.assert_allclose(weighted.mean_g, repeated.mean_g)
    correlation = pairwise_correlation(repeated.g)  # pairs 00 01 02 01 02 12
    assert weighted.word_correlation()[0] == pytest.approx(correlation[1:].mean())
    assert weighted.word_correlation()[1] == pytest.approx(correlation[1:].min())


def test_leaving_one_out_leaves_it_out() -> None:
    g = RNG.normal(size=(4, 6))
    np.testing.assert_allclose(leave_one_out_mean(g, np.ones(4))[1], g[[0, 2, 3]].mean(axis=0))
    np.testing.assert_allclose(leave_one_out_mean(g, np.array([2, 1, 1, 0]))[1], g[[0, 0, 2]].mean(axis=0))
    np.testing.assert_array_equal(leave_one_out_mean(g[:1], np.ones(1)), g[:1])


def test_drift_out_is_what_is_left_when_each_words_mean_is_taken_out() -> None:
    h, sigma = RNG.normal(size=(3, 10)), RNG.normal(size=(3, 10, 6))
    found = factorise(list(h), list(sigma))
    others = leave_one_out_mean(found.g, np.ones(3))
    rebuilt = np.stack([np.outer(h[i], found.f_max[i] * others[i]) for i in range(3)])
    moved, product = (each - each.mean(axis=1, keepdims=True) for each in (sigma, rebuilt))
    expected = 1 - np.square(moved - product).sum() / np.square(moved).sum()
    assert found.decomposition_r2_drift_out == pytest.approx(expected)
    drifting = factorise(list(h), list(sigma + 5 * RNG.normal(size=(3, 1, 6))))
    assert drifting.decomposition_r2_drift_out == pytest.approx(expected)
    assert drifting.decomposition_r2 != pytest.approx(found.decomposition_r2)


def test_increments_leave_the_last_step_out() -> None:
    g = RNG.normal(size=(3, 6))
    jumped = g + np.array([0, 0, 0, 0, 0, 7])
    found = [Factorisation((), each, np.ones(3), 0.0, 0.0).increment_correlation for each in (g, jumped)]
    assert found[0] == found[1] == pytest.approx(pairwise_correlation(np.diff(g[:, :-1])).mean())


def test_pairwise_correlation_is_numpys() -> None:
    g = RNG.normal(size=(4, 9))
    np.testing.assert_allclose(pairwise_correlation(g), np.corrcoef(g)[np.triu_indices(4, k=1)])


def test_where_a_linear_response_breaks_down() -> None:
    h = np.linspace(-1, 1, 21)
    kink = np.where(np.abs(h) > 0.55, np.sign(h) * 0.4, 0.0)
    sigma = np.stack([h, h + kink], axis=1)
    response = linear_response(h, sigma)
    residual = np.abs(sigma[:, 1] - response.slope[1] * h) / np.ptp(sigma[:, 1])
    broken = breakdown_field(response, sigma, threshold=0.05)
    assert broken[0] == np.inf
    assert broken[1] == np.abs(h)[residual > 0.05].min()


def test_a_product_collapses_and_a_common_drift_does_not() -> None:
    h, curve = np.array([1, 0.5, 0.05, -0.4, -0.8]), np.linspace(0, 1, 7) ** 2
    assert collapse_variance(h, np.outer(h, curve)) == pytest.approx(0, abs=1e-12)
    assert collapse_variance(h, np.outer(h, curve) + 0.5 * np.linspace(0, 1, 7)) > 0.1


def test_the_published_collapse_variance_is_that_of_the_curves_about_the_middle() -> None:
    """h = 1, 0.5, 0, −1 about the middle; the third condition says nothing of σ/h and is left out."""
    h, curve = np.array([1, 0.5, 0, -1]), np.array([0.0, 0.1, 0.4])
    assert published_collapse_variance(np.outer(h, curve)) == pytest.approx(0)
    drift = np.outer(h, curve) + np.array([0, 0.2, 0])
    assert published_collapse_variance(drift) == pytest.approx(np.var([0.2, 0.4, -0.2]) / 3)


def test_f_max_is_the_slope_of_largest_size_or_as_published_the_largest() -> None:
    h = np.linspace(-1, 1, 8)
    sigma = np.outer(h, [0.1, 0.3, -0.6])
    own, published = (linear_response(h, sigma, signed) for signed in (False, True))
    assert (own.f_max, published.f_max) == (pytest.approx(-0.6), pytest.approx(0.3))
    assert published.g == pytest.approx([1 / 3, 1, -2])


PLANTED = {
    "power": (0.9, 3.0),
    "exponential": (0.8, 4.0),
    "sigmoid": (1.0, 9.0, 0.6),
    "erf": (1.0, 0.6, 0.25),
    "logarithm": (0.4, 20.0),
    "tanh": (0.8, 3.0),
    "two_stage": (0.3, 1.5, 0.6, 40.0, 0.8),
    "power_to_1": (0.9,),
    "saturating_to_1": (0.4,),
    "sigmoid_to_1": (9.0, 0.6),
    "erf_to_1": (0.55,),
    "logarithm_to_1": (0.2,),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_law_is_found_and_preferred(name: str) -> None:
    x = np.linspace(0, 1, 31)
    y = LAWS[name].curve(x, *PLANTED[name]) + 1e-3 * np.random.default_rng(1).normal(size=31)
    family = next(laws for laws in (G_LAWS, F_LAWS, PUBLISHED_G_LAWS) if name in laws)
    fits = fit_laws(x, y, family)
    assert next(iter(fits)) == name
    assert tuple(fits[name].parameters.values()) == pytest.approx(PLANTED[name], rel=0.05)
    assert fits[name].r_squared > 0.999


def test_information_criteria_are_those_of_a_gaussian_likelihood() -> None:
    x, y = np.linspace(0, 1, 20), RNG.normal(size=20)
    fit = fit_law("power", x, y)
    residual = y - LAWS["power"].curve(x, *fit.parameters.values())
    log_likelihood = stats.norm.logpdf(residual, scale=np.sqrt(np.square(residual).mean())).sum()
    constant = 20 * (np.log(2 * np.pi) + 1)
    assert fit.aic == pytest.approx(2 * 3 - 2 * log_likelihood - constant)
    assert fit.bic == pytest.approx(3 * np.log(20) - 2 * log_likelihood - constant)


def test_the_power_exponent_of_many_curves_is_the_fits() -> None:
    x = np.linspace(0, 1, 20)
    y = np.stack([x**alpha for alpha in (0.5, 2.0, 7.0)]) + 0.02 * RNG.normal(size=(3, 20))
    expected = [fit_law("power", x, curve).parameters["alpha"] for curve in y]
    assert power_exponent(x, y) == pytest.approx(expected, rel=1e-3)


def test_a_fits_interval_covers_the_planted_exponent_as_often_as_it_says() -> None:
    rng, x = np.random.default_rng(3), np.linspace(0, 1, 30)
    covered = 0
    for _ in range(100):
        low, high = fit_law("power", x, 0.8 * x**2.0 + 0.05 * rng.normal(size=30)).intervals["alpha"]
        covered += low <= 2.0 <= high
    assert stats.binomtest(covered, 100, 0.95).pvalue > 0.01


def test_what_varies_by_rounding_alone_does_not_break_down() -> None:
    """As at the embedding: σ is one number, and its last digits are the processor's."""
    h = np.linspace(-1, 1, 8)
    sigma = np.stack([np.full(8, 0.3) + 1e-8 * np.random.default_rng(0).normal(size=8), 0.3 * h], axis=1)
    assert np.isinf(breakdown_field(linear_response(h, sigma), sigma, 0.1)).all()

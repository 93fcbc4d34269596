"""The meaning axis: identities, and planted answers that are found again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from permeation import model as models
from permeation.errors import PermeationError
from permeation.meaning import curves
from permeation.meaning.direction import contrast, layer_index, midpoint
from permeation.meaning.nulls import WordResiduals, shuffled_g
from permeation.meaning.order_parameter import centred_order_parameter, order_parameter
from permeation.meaning.residuals import stream, tokenize
from permeation.meaning.response import field, linear_response
from permeation.meaning.universality import factorise, leave_one_out_mean, pairwise_correlation
from tests import tiny

RNG = np.random.default_rng(0)
PROMPTS = [
    "She bank",
    "He was refused a mortgage after two long interviews at the bank",
    "They paid off the last of their student loans at the bank",
    "The bank",
    "He waded out of the cold current and collapsed upon the bank",
]


def residuals(checkpoint: Path, batch_size: int, prepend_bos: bool = True) -> np.ndarray:
    bridge = models.load_bridge(checkpoint, torch.device("cpu"))
    sequences = tokenize(bridge.tokenizer, PROMPTS, prepend_bos)
    found = np.empty((len(PROMPTS), tiny.LAYERS + 1, tiny.WIDTH), np.float32)
    for batch, values in stream(bridge, sequences, batch_size):
        found[batch] = values
    return found


def test_a_padded_batch_gives_what_single_prompts_give(checkpoint: Path) -> None:
    np.testing.assert_allclose(residuals(checkpoint, 5), residuals(checkpoint, 1), rtol=1e-5, atol=1e-5)


def test_residuals_are_those_of_plain_transformers(checkpoint: Path, family: str) -> None:
    found = residuals(checkpoint, 3)
    plain, tokenizer = models.load(checkpoint), models.load_tokenizer(checkpoint)
    for text, mine in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids]])
        # The last of transformers' hidden states has the final norm applied, so it is left out here.
        theirs = torch.stack(plain(ids, output_hidden_states=True).hidden_states[:-1])[:, 0, -1].numpy()
        if family != "llama":
            theirs = theirs - theirs.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(mine[:-1], theirs, atol=1e-5)


def test_residuals_are_those_of_a_bridge_with_centred_writing_weights(checkpoint: Path) -> None:
    bridge = models.load_bridge(checkpoint, torch.device("cpu"))
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
    found = factorise([np.outer(h, f_max * g / g.max()) for f_max, h in strengths.items()])
    assert [response.f_max for response in found.responses] == pytest.approx(list(strengths))
    np.testing.assert_allclose(found.g, np.tile(g / g.max(), (3, 1)), atol=1e-12)
    assert found.pooled_r2 == pytest.approx(1)
    assert found.peak_depth == pytest.approx(11 / 12)
    assert found.final_drop == pytest.approx(1 - 0.8 / (11 / 12) ** 2)
    assert pairwise_correlation(found.g) == pytest.approx([1, 1, 1])


def test_the_field_is_one_at_its_strongest_prompt() -> None:
    sigma = RNG.normal(size=(20, 5))
    h = field(sigma)
    assert np.abs(h).max() == pytest.approx(1)
    response = linear_response(h, sigma)
    assert response.r_squared[-1] == pytest.approx(1)
    assert response.slope[-1] == pytest.approx(np.abs(sigma[:, -1]).max())


def test_leaving_one_out_leaves_it_out() -> None:
    g = RNG.normal(size=(4, 6))
    np.testing.assert_allclose(leave_one_out_mean(g)[1], g[[0, 2, 3]].mean(axis=0))
    np.testing.assert_array_equal(leave_one_out_mean(g[:1]), g[:1])


PLANTED = {
    "power": (0.9, 3.0),
    "exponential": (0.8, 4.0),
    "sigmoid": (1.0, 9.0, 0.6),
    "erf": (1.0, 0.6, 0.25),
    "logarithm": (0.4, 20.0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_law_is_found_and_preferred(name: str) -> None:
    x = np.linspace(0, 1, 31)
    y = curves.LAWS[name].curve(x, *PLANTED[name]) + 1e-3 * np.random.default_rng(1).normal(size=31)
    fits = curves.fit_all(x, y)
    assert next(iter(fits)) == name
    assert tuple(fits[name].parameters.values()) == pytest.approx(PLANTED[name], rel=0.05)
    assert fits[name].r_squared > 0.999


def test_information_criteria_are_those_of_a_gaussian_likelihood() -> None:
    x, y = np.linspace(0, 1, 20), RNG.normal(size=20)
    fit = curves.fit("power", x, y)
    residual = y - curves.LAWS["power"].curve(x, *fit.parameters.values())
    log_likelihood = stats.norm.logpdf(residual, scale=np.sqrt(np.square(residual).mean())).sum()
    constant = 20 * (np.log(2 * np.pi) + 1)
    assert fit.aic == pytest.approx(2 * 3 - 2 * log_likelihood - constant)
    assert fit.bic == pytest.approx(3 * np.log(20) - 2 * log_likelihood - constant)


def test_shuffled_senses_keep_the_words_and_lose_the_contrast() -> None:
    rng = np.random.default_rng(0)
    sense = rng.normal(size=64)
    gradient = np.linspace(-1, 1, 20)[:, None, None] * np.linspace(0, 1, 6)[:, None] * sense + rng.normal(
        size=(20, 6, 64)
    )
    word = WordResiduals(sense + rng.normal(size=(12, 64)), -sense + rng.normal(size=(12, 64)), gradient)
    first, again = (shuffled_g([word, word], np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2, 6)
    assert not np.allclose(first[0], first[1])

"""σ: identities of the contrast and of the cosine with it, and what the fans of conditions say."""

import numpy as np
import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.meaning.sigma import Fan, contrast, layer_index, measure_fans, order_parameter
from tests.meaning.planted import TWO, planted

RNG = np.random.default_rng(0)


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
    np.testing.assert_allclose(contrast(b, a), -direction)


def test_tensors_of_any_format_are_taken() -> None:
    a, b = torch.randn(2, 8, 16, dtype=torch.bfloat16)
    probe = torch.randn(3, 4, 16, dtype=torch.bfloat16)
    found = order_parameter(probe, contrast(a, b))
    np.testing.assert_array_equal(
        found, order_parameter(probe.float().numpy(), contrast(a.float().numpy(), b.float().numpy()))
    )


def test_a_contrast_of_nothing_has_no_direction() -> None:
    same = np.ones((3, 2, 4))
    assert (contrast(same, same) == 0).all()


def test_a_product_collapses_and_a_common_drift_does_not() -> None:
    h, curve = np.array([1, 0.5, 0.05, -0.4, -0.8]), np.linspace(0, 1, 7) ** 2
    assert Fan(np.outer(h, curve)).collapse_variance == pytest.approx(0, abs=1e-12)
    drift = 0.5 * np.sin(np.pi * np.linspace(0, 1, 7))  # 0 at the last layer, which h is taken from
    assert Fan(np.outer(h, curve) + drift).collapse_variance > 0.1


def test_the_fan_is_in_order() -> None:
    fan = measure_fans(planted(TWO, sense=8.0), 4)["one"]
    assert fan.ordered
    assert fan.order_tau == pytest.approx(1)
    assert fan.separation > 0


def test_a_word_without_a_direction_is_an_error() -> None:
    activations = planted(TWO, sense=8.0)
    activations.at_word[:, 0] = 1.0
    with pytest.raises(PermeationError, match=r"'one' has no direction: at sigma.direction_layer"):
        measure_fans(activations, 0)

"""Laws: planted ones are found and preferred, and the criterion is that of a Gaussian likelihood."""

import numpy as np
import pytest
from scipy import stats

from permeation.meaning.laws import LAWS, best_law, fit_law, power_exponent

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
    y = LAWS[name].curve(x, *PLANTED[name]) + 1e-3 * np.random.default_rng(1).normal(size=31)
    assert best_law(x, y) == name
    assert fit_law(name, x, y)[0] == pytest.approx(PLANTED[name], rel=0.05)


def test_the_information_criterion_is_that_of_a_gaussian_likelihood() -> None:
    x, y = np.linspace(0, 1, 20), np.random.default_rng(0).normal(size=20)
    parameters, aic = fit_law("power", x, y)
    residual = y - LAWS["power"].curve(x, *parameters)
    log_likelihood = stats.norm.logpdf(residual, scale=np.sqrt(np.square(residual).mean())).sum()
    assert aic == pytest.approx(2 * 3 - 2 * log_likelihood - 20 * (np.log(2 * np.pi) + 1))


def test_the_power_exponent_of_many_curves_is_the_fits() -> None:
    x = np.linspace(0, 1, 20)
    y = np.stack([x**alpha for alpha in (0.5, 2.0, 7.0)]) + 0.02 * np.random.default_rng(0).normal(size=(3, 20))
    expected = [fit_law("power", x, curve)[0][1] for curve in y]
    assert power_exponent(x, y) == pytest.approx(expected, rel=1e-3)

"""Spectra, null models and leaving one out: identities and planted answers."""

import numpy as np
import pytest
import torch

from permeation.universal.compare import over_layers
from permeation.universal.leave_out import ALONE, MEAN, OWN, RANDOM, SHARED, Left, losses, over_models
from permeation.universal.subspace import (
    components_for,
    filtered,
    independent,
    leading,
    on_inputs,
    random_frame,
    scatter,
    spectra,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(rank: int, models: int = 6, noise: float = 0.0) -> torch.Tensor:
    """Matrices of 30 × 20 that share a mean and a subspace of `rank` directions of the inputs."""
    draw = generator(1)
    mean = torch.randn(30, 20, generator=draw, dtype=torch.float64)
    shared = torch.randn(models, 30, rank, generator=draw, dtype=torch.float64) @ random_frame(20, rank, draw).T
    return mean + shared + noise * torch.randn(models, 30, 20, generator=draw, dtype=torch.float64)


def left(X: torch.Tensor, i: int = 0, count: int = 20) -> Left:
    return Left.of(X, i, count, generator(2))


def test_a_planted_subspace_is_found_with_its_rank() -> None:
    X = planted(3)
    found = spectra(X)
    assert components_for(found["stacked, mean taken out"], 1.0) == 3
    assert found["stacked, mean taken out"][2] == pytest.approx(1)
    assert components_for(found["stacked"], 0.99) > 3  # the mean spreads over all directions
    assert components_for(found["points, mean taken out"], 1.0) == 5  # n − 1: points in general position
    torch.testing.assert_close(left(X).rebuilt(SHARED, 3), X[0])
    assert not torch.allclose(left(X).rebuilt(SHARED, 2), X[0], atol=0.1)


def test_planted_points_are_found_with_their_rank() -> None:
    draw = generator(3)
    directions, weights = torch.randn(2, 30, 20, generator=draw), torch.randn(6, 2, generator=draw)
    X = torch.einsum("nk,kmd->nmd", weights, directions).double() + 1
    assert components_for(spectra(X)["points, mean taken out"], 1 - 1e-9) == 2


def test_a_model_that_is_the_mean_of_the_others_projects_to_itself() -> None:
    others = planted(5, models=5)
    X = torch.cat([others.mean(0, keepdim=True), others])
    own = left(X)
    for curve in (MEAN, SHARED, RANDOM, OWN):
        torch.testing.assert_close(own.rebuilt(curve, 4), X[0])
    torch.testing.assert_close(own.rebuilt(ALONE, 4), torch.zeros_like(X[0]))


def test_every_curve_ends_where_it_should() -> None:
    X = planted(20, noise=0.1)
    own = left(X)
    for curve in (SHARED, OWN):  # all directions
        torch.testing.assert_close(own.rebuilt(curve, 20), X[0])
    torch.testing.assert_close(own.rebuilt(ALONE, 20), X[0] - X[1:].mean(0))
    for K in (1, 5, 10):
        off = {curve: float((own.rebuilt(curve, K) - X[0]).norm()) for curve in (SHARED, RANDOM, OWN)}
        assert off[OWN] == min(off.values())  # Eckart and Young
        energies = [float((own.rebuilt(curve, K) - own.M).norm()) for curve in (SHARED, RANDOM)]
        assert energies[0] == pytest.approx(energies[1])


def test_independent_matrices_have_the_nulls_spectrum() -> None:
    X = torch.randn(8, 30, 20, generator=generator(), dtype=torch.float64)
    own, null = spectra(X), spectra(independent(X, generator(4)))
    for key, shares in own.items():
        torch.testing.assert_close(null[key], shares, rtol=0, atol=0.03)
    shared = planted(3)
    turned = independent(shared, generator(4))
    torch.testing.assert_close(torch.linalg.svdvals(turned), torch.linalg.svdvals(shared))
    assert components_for(spectra(turned)["stacked, mean taken out"], 0.99) > 10


def test_updates_filtered_by_their_inputs_lie_where_the_inputs_lie() -> None:
    E = random_frame(20, 2, generator(5))
    S = E @ E.T
    X = torch.randn(8, 30, 20, generator=generator(), dtype=torch.float64)
    null = filtered(X, S)
    assert components_for(spectra(null)["stacked, mean taken out"], 1 - 1e-9) == 2
    torch.testing.assert_close(null.norm(dim=(1, 2)), X.norm(dim=(1, 2)))
    assert on_inputs(null, S)[1] == pytest.approx(1)
    assert on_inputs(X, S)[1] == pytest.approx(0.1, abs=0.05)  # 2 of 20 directions
    assert on_inputs(X, scatter(X - X.mean(0)))[4] == pytest.approx(float(spectra(X)["stacked, mean taken out"][4]))


def test_fewer_components_than_asked_for() -> None:
    assert leading(torch.diag(torch.tensor([1.0, 0, 3.0], dtype=torch.float64)), 3).shape == (3, 2)
    two = left(planted(3, models=2))  # the mean is the other model, and there is nothing else
    torch.testing.assert_close(two.rebuilt(SHARED, 4), two.M)


def test_ratios_over_models() -> None:
    models = [
        [{"curve": "untouched", "components": 0, "nll": x}, {"curve": MEAN, "components": 0, "nll": lost}]
        for x, lost in ((2.0, np.log(2)), (3.0, np.log(8)))
    ]
    found = over_models(losses(models)[MEAN, 0])
    assert found.value == pytest.approx(4)
    assert found.low * found.high == pytest.approx(16)  # Student's interval is even in log ratio


def test_an_interval_over_layers_counts_each_layer_once() -> None:
    found = over_layers({(0, "a"): 1.0, (0, "b"): 3.0, (1, "a"): 2.0, (1, "b"): 2.0})
    assert found == {"value": 2, "low": 2, "high": 2}

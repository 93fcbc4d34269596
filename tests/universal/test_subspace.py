"""Spectra, null models and leaving one out: identities and planted answers."""

import numpy as np
import pytest
import torch

from permeation.universal.compare import figure
from permeation.universal.subspace import (
    ALONE,
    MEAN,
    OWN_K,
    RANDOM,
    SHARED,
    Left,
    components_for,
    filtered,
    leading,
    on_inputs,
    random_frame,
    rotated,
    scatter,
    spectra,
    spectrum,
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
    found = spectrum(scatter(X))
    assert components_for(found, 1.0) == 3
    assert found[2] == pytest.approx(1)
    torch.testing.assert_close(left(X).rebuilt(SHARED, 3), X[0])
    assert not torch.allclose(left(X).rebuilt(SHARED, 2), X[0], atol=0.1)


def test_models_in_a_plane_off_the_origin_are_points_of_two_dimensions_and_of_three_with_their_mean() -> None:
    mean, *sides = torch.randn(3, 30, 20, generator=generator(), dtype=torch.float64)
    weights = torch.randn(6, 2, generator=generator(3), dtype=torch.float64)
    X = 10 * mean + torch.einsum("nk,kij->nij", weights, torch.stack(sides))
    found = spectra(X)
    assert [components_for(found[view], 1 - 1e-9) for view in ("points", "points_with_mean")] == [2, 3]
    assert found["points"][0] < 0.9 < found["points_with_mean"][0]
    torch.testing.assert_close(found["rows"], spectrum(scatter(X)))
    torch.testing.assert_close(found["rows_with_mean"], spectrum(X.flatten(0, 1).T @ X.flatten(0, 1)))


def test_a_model_that_is_the_mean_of_the_others_projects_to_itself() -> None:
    others = planted(5, models=5)
    X = torch.cat([others.mean(0, keepdim=True), others])
    own = left(X)
    for curve in (MEAN, SHARED, RANDOM, OWN_K):
        torch.testing.assert_close(own.rebuilt(curve, 0 if curve == MEAN else 4), X[0])
    torch.testing.assert_close(own.rebuilt(ALONE, 4), torch.zeros_like(X[0]))


def test_every_curve_ends_where_it_should() -> None:
    X = planted(20, noise=0.1)
    own = left(X)
    for curve in (SHARED, OWN_K):  # all directions
        torch.testing.assert_close(own.rebuilt(curve, 20), X[0])
    torch.testing.assert_close(own.rebuilt(ALONE, 20), X[0] - X[1:].mean(0))
    for K in (1, 5, 10):
        off = {curve: float((own.rebuilt(curve, K) - X[0]).norm()) for curve in (SHARED, RANDOM, OWN_K)}
        assert off[OWN_K] == min(off.values())  # Eckart and Young
        energies = [float((own.rebuilt(curve, K) - own.M).norm()) for curve in (SHARED, RANDOM)]
        assert energies[0] == pytest.approx(energies[1])


def test_independent_matrices_have_the_nulls_spectrum() -> None:
    X = torch.randn(8, 30, 20, generator=generator(), dtype=torch.float64)
    null = spectrum(scatter(rotated(X, generator(4))))
    torch.testing.assert_close(null, spectrum(scatter(X)), rtol=0, atol=0.03)
    shared = planted(3)
    turned = rotated(shared, generator(4))
    torch.testing.assert_close(torch.linalg.svdvals(turned), torch.linalg.svdvals(shared))
    assert components_for(spectrum(scatter(turned)), 0.99) > 10


def test_updates_filtered_by_their_inputs_lie_where_the_inputs_lie() -> None:
    E = random_frame(20, 2, generator(5))
    S = E @ E.T
    X = torch.randn(8, 30, 20, generator=generator(), dtype=torch.float64)
    null = filtered(X, S)
    assert components_for(spectrum(scatter(null)), 1 - 1e-9) == 2
    torch.testing.assert_close(null.norm(dim=(1, 2)), X.norm(dim=(1, 2)))
    assert on_inputs(scatter(null), S)[1] == pytest.approx(1)
    assert on_inputs(scatter(X), S)[1] == pytest.approx(0.1, abs=0.05)  # 2 of 20 directions
    torch.testing.assert_close(on_inputs(scatter(X), scatter(X)), spectrum(scatter(X)))


def test_fewer_components_than_asked_for() -> None:
    assert leading(torch.diag(torch.tensor([1.0, 0, 3.0], dtype=torch.float64)), 3).shape == (3, 2)
    two = left(planted(3, models=2))  # the mean is the other model, and there is nothing else
    torch.testing.assert_close(two.rebuilt(SHARED, 4), two.M)


def test_figures_over_models_and_over_layers() -> None:
    found = figure(np.log([2, 8]))
    assert found["value"] == pytest.approx(4)
    assert found["low"] * found["high"] == pytest.approx(16)  # Student's interval is even in log ratio
    of_layers = figure(np.log([1.0, 4.0, 2.0, 2.0]), [0, 0, 1, 1])
    assert list(of_layers.values()) == pytest.approx([2, 2, 2])  # each layer counts once

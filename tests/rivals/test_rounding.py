"""Rounding to a few bits: by hand, against PyTorch's own quantisers, and GPTQ against what it minimises."""

import pytest
import torch

from permeation.rivals.rounding import Grid, gptq

W = torch.randn(96, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
COARSE = 2**-8  # what bfloat16 does to a scale


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("grid", [Grid(), Grid(offset=True), Grid(32), Grid(40, offset=True)])
def test_a_number_is_within_half_a_step_and_one_of_so_many(grid: Grid, bits: int) -> None:
    rounded = grid.round(W, bits)
    for own, part in zip(W.split(grid.group or 96), rounded.split(grid.group or 96), strict=True):
        full = own.amax(0) - own.amin(0) if grid.offset else 2 * own.abs().amax(0)
        step = full / (2**bits - (1 if grid.offset else 2))
        assert ((part - own).abs() <= step / 2 + 2 * COARSE * own.abs().amax(0)).all()
        assert all(len(column.unique()) <= 2**bits - (0 if grid.offset else 1) for column in part.T)
    torch.testing.assert_close(grid.round(rounded, bits), rounded, rtol=0.02, atol=0.02)


def test_integers_are_those_of_pytorch() -> None:
    """Scales that bfloat16 holds, so that both have the same."""
    scale = 2.0 ** torch.randint(-4, 3, (20,), generator=torch.Generator().manual_seed(1))
    exact = scale * torch.randint(-7, 8, (96, 20), generator=torch.Generator().manual_seed(2)).double()
    exact[0] = 7 * scale
    near = exact + 0.3 * scale * torch.rand(96, 20, dtype=torch.float64) * exact.sign() * -1
    near[0] = exact[0]
    theirs = torch.fake_quantize_per_channel_affine(
        near.float(), scale.float(), torch.zeros(20, dtype=torch.int32), 1, -7, 7
    )
    torch.testing.assert_close(Grid().round(near, 4), theirs.double())


def test_a_clipped_range_has_no_larger_error_and_outliers_make_it_smaller() -> None:
    def error(grid: Grid, numbers: torch.Tensor) -> torch.Tensor:
        return (grid.round(numbers, 3) - numbers).square().sum(0)

    assert (error(Grid(clip=True), W) <= error(Grid(), W)).all()
    outlier = W.clone()
    outlier[0] = 6
    assert (error(Grid(clip=True), outlier) < error(Grid(), outlier)).all()


@pytest.mark.parametrize("grid", [Grid(), Grid(32, offset=True)])
def test_gptq_is_rounding_where_inputs_are_independent_and_better_where_they_are_not(grid: Grid) -> None:
    identity = torch.eye(96, dtype=torch.float64)
    torch.testing.assert_close(gptq(W, identity, grid, 3).values(), grid.round(W, 3))
    x = torch.randn(400, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x[:, 48:] = x[:, :48] + 0.3 * x[:, 48:]
    H = x.T @ x / 400
    off = {
        name: x @ (rounded - W)
        for name, rounded in (("gptq", gptq(W, H, grid, 3).values()), ("nearest", grid.round(W, 3)))
    }
    assert off["gptq"].square().sum() < 0.7 * off["nearest"].square().sum()


def test_gptq_of_two_rows_by_hand() -> None:
    """The first row is rounded; the second takes up what it is off, −U₁₂ / U₁₁ of it, before it is rounded."""
    H = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    two = torch.tensor([[0.30, 1.0], [1.00, 0.20]], dtype=torch.float64)
    U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    grid = Grid()
    levels = grid.levels(two, 3)
    first = levels.values(levels.nearest(two[:1]))
    second = levels.values(levels.nearest(two[1:] - U[0, 1] / U[0, 0] * (two[:1] - first)))
    torch.testing.assert_close(gptq(two, H, grid, 3).values(), torch.cat([first, second]))

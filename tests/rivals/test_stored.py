"""What is stored as one file: as large as counted, and the same weights when it is read back."""

from pathlib import Path

import pytest
import torch

from permeation.rivals.base import Problem
from permeation.rivals.registry import METHODS
from permeation.rivals.stored import Stored, _pack, _unpack, read_packed, write_packed
from permeation.weights.heads import Heads
from permeation.weights.moments import Moments

LAYERS, HEADS, D, E = 4, 8, 128, 16
SIZES = {
    "int_column": 5,
    "int_rows": 3,
    "int_g64_offset": 4,
    "int_g64_offset_gptq": 2,
    "int_g64_offset_rows_rotated": 4,
    "int_g64_offset_awq": 3,
    "int3_residual": 9,
    "layer_subspace_score_6bit": 50,
}


@pytest.fixture(scope="module", params=[False, True], ids=["grouped queries", "biases"])
def problem(request: pytest.FixtureRequest) -> Problem:
    """Random heads large enough that a file's header is less than a hundredth of it."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    kv_heads = HEADS if request.param else HEADS // 2
    biases = (draw(LAYERS, HEADS, E), draw(LAYERS, kv_heads, E)) if request.param else ()
    x = (draw(LAYERS, 400, D) @ draw(LAYERS, D, D)).double()
    norm = x.square().sum(2)
    moments = Moments(
        torch.tensor(400), x.mean(1), x.mT @ x / 400, (norm[:, :, None] * x).mean(1), norm.square().mean(1)
    )
    return Problem(Heads(draw(LAYERS, HEADS, D, E), draw(LAYERS, kv_heads, D, E), *biases), moments, seed=3)


@pytest.mark.parametrize("name", SIZES)
def test_the_file_is_what_is_counted_and_gives_the_weights_back(problem: Problem, name: str, tmp_path: Path) -> None:
    rival, size = METHODS[name].fit(problem), SIZES[name]
    assert isinstance(rival, Stored)
    write_packed(rival, size, problem.seed, file := tmp_path / "packed.safetensors")
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert 8 * (file.stat().st_size - header) == rival.stored_bits(size)
    assert header < 1200
    expected, found = rival.apply(size).tensors(), read_packed(file).tensors()
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor.bfloat16().float() if key.startswith("b") else tensor), key


def test_integers_are_packed_from_the_highest_bit_on() -> None:
    """Three bits, by hand: 5, 2, 7 and 1 are 101 010 111 001."""
    q = torch.tensor([[5, 2], [7, 1]], dtype=torch.int32)
    assert _pack(q, 3).tolist() == [0b10101011, 0b10010000]
    assert _unpack(_pack(q, 3), 3)[:4].tolist() == [5, 2, 7, 1]

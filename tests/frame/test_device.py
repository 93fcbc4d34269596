"""Which library multiplies."""

import pytest
import torch

from permeation.frame import device
from permeation.frame.device import fast_products, find_device, onednn_is_exact
from permeation.frame.errors import PermeationError


def setting() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def test_the_product_is_the_same_and_the_setting_comes_back() -> None:
    a, b = (torch.randn(300, 300, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    exact, before = a @ b, setting()
    with pytest.raises(ZeroDivisionError), fast_products():
        assert setting() == ("bf16" if onednn_is_exact() else before)
        torch.testing.assert_close(a @ b, exact, rtol=0, atol=1e-5 * float(exact.norm()))
        raise ZeroDivisionError
    assert setting() == before


def test_a_library_that_rounds_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with matrix units for bfloat16: there even the smallest difference is too much."""
    monkeypatch.setattr(device, "SAME_PRODUCT", 0.0)
    onednn_is_exact.cache_clear()
    try:
        with fast_products():
            assert setting() != "bf16"
    finally:
        onednn_is_exact.cache_clear()


def test_a_device_that_is_not_there_is_an_error() -> None:
    absent = next(name for name in ("mps", "cuda") if not getattr(torch, name).is_available())
    with pytest.raises(PermeationError, match=f"device is '{absent}', which this machine lacks; here: auto"):
        find_device(absent)
    assert find_device("cpu") == torch.device("cpu")

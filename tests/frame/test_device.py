"""Which library multiplies, and whether freed memory is kept: nobody outside notices."""

import ctypes
import platform
import resource
from pathlib import Path

import pytest
import torch

from permeation.frame import device
from permeation.frame.device import fast_products, kept_pages, onednn_is_exact


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways with freed memory")
def test_freed_memory_is_kept_inside_and_given_back_outside() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def left_by(bytes_: int) -> int:
        ctypes.CDLL(None).malloc_trim(0)  # or what an earlier test freed would be taken
        before = resident()
        numbers = torch.ones(bytes_ // 4)
        assert resident() - before > bytes_ // 2
        del numbers
        return resident() - before

    with pytest.raises(ZeroDivisionError), kept_pages():
        assert left_by(2**26) > 2**25
        raise ZeroDivisionError
    assert left_by(2**28) < 2**24

"""The device to compute on, the library that multiplies there, and what becomes of freed memory."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from permeation.frame.errors import PermeationError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def find_device(wanted: str) -> torch.device:
    """The device of that name; `auto`: CUDA before MPS before the CPU. TF32 is switched off.

    Raises PermeationError where this machine lacks it.
    """
    import torch

    # Weights are analysed at full precision: TF32 would keep 10 of 23 mantissa bits.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [device for device in present if present[device]]
    name = here[0] if wanted == "auto" else wanted
    if name not in here:
        raise PermeationError(f"device is {name!r}, which this machine lacks; here: {', '.join(['auto', *here])}")
    return torch.device(name)


def total_memory(device: torch.device) -> int:
    """Bytes of the device's memory, used or not: what is chosen by it stays the same from run to run."""
    import torch

    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":  # pragma: no cover (needs a Mac)
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# How far a float32 product by oneDNN may be from the default library's, as a share of its norm.
SAME_PRODUCT = 1e-5


@contextmanager
def fast_products() -> Iterator[None]:
    """Inside, float32 products on the processor go to oneDNN, where it gives what the default library gives.

    The default library, MKL, takes the AVX2 path on processors of other makers than its own; oneDNN takes AVX-512
    wherever there is AVX-512. Products on a GPU and in float64 stay as they are.
    """
    if not onednn_is_exact():
        yield
        return
    with _products_by_onednn():
        yield


@cache
def onednn_is_exact() -> bool:
    """Whether a float32 product by oneDNN agrees with the default library's to 1e-5; measured once per process.

    It does not on processors with matrix units for bfloat16 (AMX). PyTorch calls the setting "bf16" because oneDNN may
    then round to bfloat16.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a @ b
    with _products_by_onednn():
        error = (a @ b - exact).norm() / exact.norm()
    return float(error) < SAME_PRODUCT


@contextmanager
def _products_by_onednn() -> Iterator[None]:
    import torch

    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
MAPPINGS = 65536  # glibc's own M_MMAP_MAX


@contextmanager
def kept_pages() -> Iterator[None]:
    """Inside, freed memory is used again at once; by default each large activation is a new mapping, faulted in.

    For loops that need arrays of the same sizes again and again. Arrays of many sizes would let the heap grow without
    end: outside, large ones are mappings as before. The heap itself is never trimmed, so that the next loop finds its
    pages. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:  # pragma: no cover (macOS, musl)
        yield
        return
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
        mallopt(option, value)
    try:
        yield
    finally:
        mallopt(M_MMAP_MAX, MAPPINGS)

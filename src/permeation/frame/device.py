"""The device to compute on, and the library that multiplies there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from permeation.frame.errors import PermeationError

DEVICES = ("auto", "cpu", "cuda", "mps")
MATMUL: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
SAME_PRODUCT = 1e-5  # how far a float32 product by oneDNN may be from the default library's, as a share of its norm


def find_device(wanted: str) -> torch.device:
    """The device of that name; `auto`: CUDA before MPS before the CPU. TF32 is off: it keeps 10 of 23 mantissa bits.

    Raises PermeationError where this machine lacks it.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    here = [*(kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()), "cpu"]
    name = here[0] if wanted == "auto" else wanted
    if name not in here:
        raise PermeationError(f"device is {name!r}, which this machine lacks; here: {', '.join(['auto', *here])}")
    return torch.device(name)


def total_memory(device: torch.device) -> int:
    """Bytes of the device's memory, used or not: what is chosen by it stays the same from run to run."""
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def fast_products() -> Iterator[None]:
    """Inside, float32 products on the processor go to oneDNN, where it gives what the default library gives.

    MKL takes the AVX2 path on processors of other makers than its own; oneDNN takes AVX-512 wherever there is AVX-512
    (docs/performance.md). Products on a GPU and in float64 stay as they are.
    """
    before = MATMUL.fp32_precision
    MATMUL.fp32_precision = "bf16" if onednn_is_exact() else before
    try:
        yield
    finally:
        MATMUL.fp32_precision = before


@cache
def onednn_is_exact() -> bool:
    """Whether a float32 product by oneDNN agrees with the default library's to 1e-5; measured once per process.

    It does not on processors with matrix units for bfloat16 (AMX). PyTorch calls the setting "bf16" because oneDNN may
    then round to bfloat16.
    """
    generator, before = torch.Generator().manual_seed(0), MATMUL.fp32_precision
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a @ b
    MATMUL.fp32_precision = "bf16"
    error = (a @ b - exact).norm() / exact.norm()
    MATMUL.fp32_precision = before
    return float(error) < SAME_PRODUCT

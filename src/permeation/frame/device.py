"""The device to compute on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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

"""The device to compute on."""

from __future__ import annotations

import torch

from permeation.errors import PermeationError


def find_device(wanted: str) -> torch.device:
    """The device of that name; `auto`: CUDA before MPS before the CPU. TF32 is switched off.

    Raises PermeationError where this machine lacks it.
    """
    # Weights are analysed at full precision: TF32 would keep 10 of 23 mantissa bits.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [device for device in present if present[device]]
    name = here[0] if wanted == "auto" else wanted
    if name not in here:
        raise PermeationError(f"device is {name!r}, which this machine lacks; here: {', '.join(['auto', *here])}")
    return torch.device(name)

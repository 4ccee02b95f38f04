"""Which number type a machine computes fastest in: bfloat16 where it has matrix units for it, else float32."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]

_GAIN = 1.2  # bfloat16 must be this much faster to be worth its rounding


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Turn "auto" into what this device is faster in; the answer belongs into the run, so that a resume repeats it.

    A CPU with AMX has bfloat16 in hardware and is not asked further; any other CPU is timed once, for about 0.2 s.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu":
        return "float32"
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return "bfloat16" if has_amx or _bfloat16_gain() > _GAIN else "float32"


def autocast(dtype: str, device: torch.device) -> AbstractContextManager[None]:
    """Context in which convolutions and matrix products run in `dtype` ("float32" or "bfloat16")."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"
    )
    return context


def _bfloat16_gain() -> float:
    """How many times faster than float32 a small convolution trains in bfloat16 on this CPU."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.randn(8, 64, 24, 24).to(memory_format=torch.channels_last)
    seconds = {}
    for dtype in ("float32", "bfloat16"):
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            with autocast(dtype, torch.device("cpu")):
                out = layer(images)
            out.float().sum().backward()
            best = min(best, time.perf_counter() - start)
        seconds[dtype] = best
    return seconds["float32"] / seconds["bfloat16"]

"""Choice of the number type of convolutions and matrix products: bfloat16 if it is faster, otherwise float32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]
NumberType = Literal["float32", "bfloat16"]

AS_SET = "as set"
"""The reason given for a number type that the user chose."""
MOST_DEPTHWISE = 0.2
"""Share of depth-wise channels above which training on a CPU is slower in bfloat16: 0.3 to 0.4 in networks of inverted
residuals (MobileNet, EfficientNet), whose training takes 1.2 to 1.6 times longer; 0.16 in ConvNeXt, which gains."""


class PrecisionChoice(NamedTuple):
    """A number type and why it was chosen."""

    dtype: NumberType
    reason: str

    def __str__(self) -> str:
        return f"{self.dtype}: {self.reason}"


def choose_precision(
    precision: Precision, device: torch.device, network: nn.Module, *, training: bool
) -> PrecisionChoice:
    """Return the number type for `network` on `device`; "auto" depends on these two and the machine, not on a timing.

    On a CPU with bfloat16 instructions dense networks are 1.2 to 2.5 times faster in bfloat16. Depth-wise convolutions
    have no fast gradient there, so networks made of them train in float32 (docs/results/performance.md).

    Args:
        precision: "auto", or the number type itself.
        device: where the network runs.
        network: the module; only its layer types are used.
        training: whether gradients are computed.
    """
    if precision != "auto":
        return PrecisionChoice(precision, AS_SET)
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return PrecisionChoice("bfloat16", "this GPU computes in bfloat16")
        return PrecisionChoice("float32", "this GPU does not compute in bfloat16")
    if device.type != "cpu":
        return PrecisionChoice("float32", f"bfloat16 is not tested on {device.type}")
    if not cpu_has_bfloat16():
        return PrecisionChoice("float32", "this processor has no bfloat16 instructions (AMX or AVX512_BF16)")
    share = depthwise_share(network)
    if training and share > MOST_DEPTHWISE:
        why = f"{share:.0%} of the network's channels are depth-wise, whose gradients are slow in bfloat16 on a CPU"
        return PrecisionChoice("float32", why)
    return PrecisionChoice("bfloat16", "this processor has bfloat16 instructions")


def cpu_has_bfloat16() -> bool:
    """Whether this processor has bfloat16 instructions (AMX or AVX512_BF16) and torch uses them."""
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_onednn and any(check is not None and check() for check in checks)


def depthwise_share(network: nn.Module) -> float:
    """Compute the share, 0 to 1, of output channels of convolutions and linear layers that are depth-wise.

    Example:
        >>> depthwise_share(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 24, 1)))
        0.25
    """
    depthwise = total = 0
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            total += layer.out_channels
            depthwise += layer.out_channels * (layer.groups == layer.in_channels > 1)
        elif isinstance(layer, nn.Linear):
            total += layer.out_features
    return depthwise / total if total else 0.0


def autocast(dtype: str, device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which convolutions and matrix products run in `dtype` ("float32" or "bfloat16")."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"
    )
    return context

"""Trunks by name: a timm network, IBN-a where the published networks have it, and stride 1 in the last stage.

`TRUNKS` is the one table of names. A trunk maps (B, 3, H, W) images to a (B, D, H / 16, W / 16) feature map and knows
D as `num_features`. Its state keys are timm's, which for this family are those of torchvision and of IBN-Net.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from torch import nn

from vreid.errors import InputError
from vreid.models.ibn import IBN


@dataclass(frozen=True)
class Trunk:
    """One line of the table: which timm network, changed how.

    Attributes:
        timm_name: the network's name in timm.
        ibn: IBN-a in place of bn1 in every block of layer1 to layer3.
        options: further arguments of the timm network (widths, stem).
    """

    timm_name: str
    ibn: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_SMALL = {"stem_type": "deep", "stem_width": 16, "channels": (32, 64, 128, 256)}

TRUNKS: Mapping[str, Trunk] = {
    "resnet18": Trunk("resnet18"),
    "resnet34": Trunk("resnet34"),
    "resnet50": Trunk("resnet50"),
    "resnet101": Trunk("resnet101"),
    "resnet18_ibn_a": Trunk("resnet18", ibn=True),
    "resnet34_ibn_a": Trunk("resnet34", ibn=True),
    "resnet50_ibn_a": Trunk("resnet50", ibn=True),
    "resnet101_ibn_a": Trunk("resnet101", ibn=True),
    "resnext101_ibn_a": Trunk("resnext101_32x4d", ibn=True),
    # For CPUs: the same blocks, narrow (2.8 million and 0.2 million parameters).
    "resnet18_ibn_a_small": Trunk("resnet18", ibn=True, options=_SMALL),
    "resnet10_ibn_a_tiny": Trunk(
        "resnet18",
        ibn=True,
        options={"stem_type": "deep", "stem_width": 8, "channels": (16, 32, 48, 64), "layers": (1, 1, 1, 1)},
    ),
}


def build_trunk(name: str) -> nn.Module:
    """Build the trunk `name` with random weights.

    Raises:
        InputError: unknown name; the nearest known one is suggested.
    """
    if name not in TRUNKS:
        near = difflib.get_close_matches(name, TRUNKS, n=1, cutoff=0.0)[0]
        raise InputError(f"There is no backbone {name!r}; did you mean {near!r}? Known: {', '.join(TRUNKS)}.")
    import timm

    line = TRUNKS[name]
    trunk: Any = timm.create_model(line.timm_name, pretrained=False, num_classes=0, global_pool="", **line.options)
    if line.ibn:
        for stage in (trunk.layer1, trunk.layer2, trunk.layer3):
            for block in stage:
                block.bn1 = IBN(block.bn1.num_features)
    # Not timm's output_stride=16: that would also dilate the blocks that follow, which the papers' networks do not.
    for module in trunk.layer4[0].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return cast(nn.Module, trunk)

"""Backbones by name: those of the two papers, small variants for CPUs, and every network of timm.

`BACKBONES` lists the names. A backbone maps images (B, 3, H, W) to a feature map (B, D, h, w) or, if its attribute
`pools` is true, to features (B, D); its attribute `num_features` is D.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from vreid.errors import InputError
from vreid.models.cnn import densenet, resnest, resnet
from vreid.models.efficientnet import EFFICIENTNET_LITE0_KEYS, IMAGENET_BACKBONE
from vreid.models.transreid import TransReID, TransReIDOptions


@dataclass(frozen=True)
class Backbone:
    """An entry of `BACKBONES`.

    Attributes:
        make: builds the backbone with random weights; a `TransReID` takes its options.
        parameters: number of parameters, in millions.
        cost: billions of multiply-adds for one 256 x 256 image; a training step takes three times as many.
    """

    make: Callable[..., nn.Module]
    parameters: float
    cost: float


_SMALL_18: dict[str, Any] = {"stem_type": "deep", "stem_width": 16, "channels": (32, 64, 128, 256)}
_TINY_10: dict[str, Any] = {"stem_type": "deep", "stem_width": 8, "channels": (16, 32, 48, 64), "layers": (1, 1, 1, 1)}
_NARROW: dict[str, Any] = {"stem_type": "deep", "stem_width": 16, "channels": (24, 48, 72, 96)}
_SHALLOW_50 = {**_NARROW, "layers": (2, 2, 2, 2)}
_SHALLOW_101 = {**_NARROW, "layers": (2, 2, 5, 2)}

BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(partial(resnet, "resnet18"), 11.2, 4.0),
    "resnet34": Backbone(partial(resnet, "resnet34"), 21.3, 7.3),
    "resnet50": Backbone(partial(resnet, "resnet50"), 23.5, 8.1),
    "resnet101": Backbone(partial(resnet, "resnet101"), 42.5, 13.0),
    "resnet18_ibn_a": Backbone(partial(resnet, "resnet18", ibn="a"), 11.2, 4.0),
    "resnet34_ibn_a": Backbone(partial(resnet, "resnet34", ibn="a"), 21.3, 7.3),
    "resnet50_ibn_a": Backbone(partial(resnet, "resnet50", ibn="a"), 23.5, 8.1),
    "resnet101_ibn_a": Backbone(partial(resnet, "resnet101", ibn="a"), 42.5, 13.0),
    "resnet18_ibn_b": Backbone(partial(resnet, "resnet18", ibn="b"), 11.2, 4.0),
    "resnet34_ibn_b": Backbone(partial(resnet, "resnet34", ibn="b"), 21.3, 7.3),
    "resnet50_ibn_b": Backbone(partial(resnet, "resnet50", ibn="b"), 23.5, 8.1),
    "resnet101_ibn_b": Backbone(partial(resnet, "resnet101", ibn="b"), 42.5, 13.0),
    "resnet50_stride32": Backbone(partial(resnet, "resnet50", last_stride=2), 23.5, 5.3),
    "resnext101_ibn_a": Backbone(partial(resnet, "resnext101_32x4d", ibn="a"), 42.1, 13.0),
    "se_resnet101_ibn_a": Backbone(partial(resnet, "resnet101", ibn="a", squeeze=True), 47.2, 13.0),
    "densenet121_ibn_a": Backbone(partial(densenet, "densenet121"), 7.0, 3.7),
    "densenet169_ibn_a": Backbone(partial(densenet, "densenet169"), 12.5, 4.4),
    "resnest101": Backbone(partial(resnest, "resnest101e"), 46.2, 15.6),
    "transreid": Backbone(TransReID, 85.9, 29.7),
    "transreid_vit_s": Backbone(
        partial(TransReID, depth=8, heads=8, mlp_ratio=3.0, qkv_bias=False, qk_scale=768**-0.5), 48.1, 16.8
    ),
    # For CPUs: the same blocks, narrow and shallow.
    "resnet18_ibn_a_small": Backbone(partial(resnet, "resnet18", ibn="a", **_SMALL_18), 2.8, 1.1),
    "resnet10_ibn_a_tiny": Backbone(partial(resnet, "resnet18", ibn="a", **_TINY_10), 0.1, 0.1),
    "resnet50_ibn_a_small": Backbone(partial(resnet, "resnet50", ibn="a", **_SHALLOW_50), 0.8, 0.5),
    "resnet50_stride32_small": Backbone(partial(resnet, "resnet50", last_stride=2, **_SHALLOW_50), 0.8, 0.4),
    "resnet101_ibn_a_small": Backbone(partial(resnet, "resnet101", ibn="a", **_SHALLOW_101), 1.0, 0.6),
    "resnext101_ibn_a_small": Backbone(
        partial(resnet, "resnext101_32x4d", ibn="a", **_SHALLOW_101, cardinality=8, base_width=8), 0.6, 0.4
    ),
    "se_resnet101_ibn_a_small": Backbone(partial(resnet, "resnet101", ibn="a", squeeze=True, **_SHALLOW_101), 1.1, 0.6),
    "densenet169_ibn_a_small": Backbone(
        partial(densenet, "densenet169", growth_rate=16, block_config=(3, 6, 12, 12)), 0.7, 0.4
    ),
    "resnest101_small": Backbone(partial(resnest, "resnest101e", **_SHALLOW_101), 1.1, 0.7),
    "transreid_small": Backbone(partial(TransReID, patch=12, stride=10, dim=192, depth=4, heads=3), 2.0, 1.8),
}
"""Name -> backbone. Names without _small or _tiny are the papers' networks, which load the published files."""

TIMM = "timm/"
"""Prefix that selects timm's network even if `BACKBONES` has one of the same name."""


def build_backbone(name: str, transreid: TransReIDOptions | None = None) -> nn.Module:
    """Build the backbone `name` of `BACKBONES`, or timm's network of that name, with random weights.

    Networks of timm keep their own pooling and accept images of any size where timm supports it (sides that are not a
    multiple of the patch size are padded).

    Args:
        name: a key of `BACKBONES`, or a name in timm, with or without the prefix "timm/".
        transreid: options of a TransReID.

    Raises:
        InputError: the name is unknown (the nearest known one is suggested), or `transreid` is set for another network.
    """
    make = BACKBONES[name].make if name in BACKBONES else None
    if make is not None and _function(make) is TransReID:
        return make(transreid)
    if transreid not in (None, TransReIDOptions()):
        known = ", ".join(key for key, line in BACKBONES.items() if _function(line.make) is TransReID)
        raise InputError(f"transreid options are set, but the backbone is {name}; remove them or choose among {known}.")
    return make() if make is not None else _timm(name)


def _function(make: Callable[..., nn.Module]) -> Any:
    return make.func if isinstance(make, partial) else make


def _timm(name: str) -> nn.Module:
    """Build timm's network `name` with its own pooling: (B, 3, H, W) -> (B, D)."""
    import timm

    plain = name.removeprefix(TIMM)
    if not timm.is_model(plain):
        begun = [known for known in BACKBONES if known.startswith(plain)]
        known = begun or [*BACKBONES, *timm.list_models()]
        near = max(known, key=lambda other: difflib.SequenceMatcher(None, other, plain).ratio())  # the first of equals
        papers = ", ".join(BACKBONES)
        raise InputError(f"There is no backbone {name!r}; did you mean {near!r}? Known: {papers}, and those of timm.")
    any_size = {"dynamic_img_size": True, "dynamic_img_pad": True}
    choices: tuple[dict[str, Any], ...] = (any_size, {"strict_img_size": False}, {})
    for options in choices:
        try:
            backbone: Any = timm.create_model(plain, pretrained=False, num_classes=0, **options)
            break
        except TypeError:  # the network does not accept these options
            if not options:
                raise
    heads = backbone.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    own = EFFICIENTNET_LITE0_KEYS if plain == IMAGENET_BACKBONE else ()
    backbone.published_keys = (*own, *((rf"{re.escape(head)}\.(weight|bias)$", None) for head in heads))
    backbone.num_features = backbone.head_hidden_size
    backbone.pools = True
    return backbone  # type: ignore[no-any-return]

"""The papers' convolutional backbones: timm's networks with IBN, squeeze-excitation and stride 16.

Each function returns a backbone that maps images (B, 3, H, W) to a feature map (B, D, h, w) and has the attribute
`num_features` = D. State keys are those of the published files; where timm's block requires another name, the
attribute `published_keys` holds the renaming rules (see `vreid.models.keys`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from torch import Tensor, nn

from vreid.models.ibn import IBN


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation with two bias-free linear layers: (B, C, H, W) -> same shape.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018. State keys as published: `fc.0.weight`,
    `fc.2.weight`.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = channels // reduction
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed, bias=False),
            nn.ReLU(),
            nn.Linear(squeezed, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        weights: Tensor = self.fc(maps.mean(dim=(2, 3)))
        return maps * weights[:, :, None, None]


def resnet(
    name: str, *, ibn: Literal["", "a", "b"] = "", squeeze: bool = False, last_stride: int = 1, **options: Any
) -> nn.Module:
    """Build a ResNet or ResNeXt of timm with stride 1 in layer4, so that the map has stride 16.

    Args:
        name: name in timm.
        ibn: "a" replaces bn1 by `IBN` in every block of layer1 to layer3; "b" replaces the stem's batch normalisation
            by instance normalisation and adds one after the last residual sum of layer1 and of layer2.
        squeeze: add `SqueezeExcite` after bn3, before the residual sum.
        last_stride: stride of layer4; 2, as in the original network, gives a map of stride 32.
        options: further arguments of the timm network (widths, stem).
    """
    backbone = _timm(name, options)
    stages = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
    if ibn == "a":
        for stage in stages[:3]:
            for block in stage:
                block.bn1 = IBN(block.bn1.num_features)
    if ibn == "b":
        backbone.bn1 = nn.InstanceNorm2d(backbone.bn1.num_features, affine=True)
        bottleneck = hasattr(backbone.layer1[0], "conv3")
        last_act, last_norm = ("act3", "bn3") if bottleneck else ("act2", "bn2")
        for stage in stages[:2]:
            norm = nn.InstanceNorm2d(getattr(stage[-1], last_norm).num_features, affine=True)
            setattr(stage[-1], last_act, nn.Sequential(OrderedDict(IN=norm, relu=nn.ReLU())))
        backbone.published_keys = ((r"(layer[12]\.\d+)\.IN\.", rf"\1.{last_act}.IN."),)
    if squeeze:
        for stage in stages:
            for block in stage:
                block.se = SqueezeExcite(block.bn3.num_features)
    # timm's output_stride=16 would also dilate the blocks that follow, which the papers' networks do not.
    for module in backbone.layer4[0].modules():
        if isinstance(module, nn.Conv2d) and last_stride == 1:
            module.stride = (1, 1)
    return backbone  # type: ignore[no-any-return]


def densenet(name: str, **options: Any) -> nn.Module:
    """Build a DenseNet of timm with IBN-a, stride 32.

    `IBN`, batch part first, replaces norm1 of every third layer of the first three blocks. The last norm is followed
    by a ReLU. `options` are further arguments of the timm network.
    """
    backbone = _timm(name, options)
    for number in (1, 2, 3):
        layers = list(getattr(backbone.features, f"denseblock{number}").values())
        for layer in layers[::3]:
            layer.norm1 = IBN(layer.norm1.num_features, ratio=0.4, batch_first=True, relu=True)
    return backbone  # type: ignore[no-any-return]


def resnest(name: str, **options: Any) -> nn.Module:
    """Build a ResNeSt of timm with stride 1 in layer4 and dilation 2 in all its blocks but the first: stride 16.

    Source: Zhang et al., "ResNeSt: Split-Attention Networks", CVPRW 2022, as DMT uses it. The first block of layer2 to
    layer4 has a 3 x 3 average pooling after conv2, with the stride of the layer; layer4 keeps it at stride 1.
    """
    backbone = _timm(name, options)
    first, *others = backbone.layer4
    first.avd_last.stride = 1
    first.downsample[0] = nn.Identity()  # the published network has a 1 x 1 average here
    for block in others:
        block.conv2.conv.dilation = block.conv2.conv.padding = (2, 2)
    return backbone  # type: ignore[no-any-return]


def _timm(name: str, options: dict[str, Any]) -> Any:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)

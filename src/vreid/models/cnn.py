"""The papers' convolutional trunks: timm's networks with exchanged norms, squeeze-excitation and a stride of 16.

Each function returns a trunk that maps (B, 3, H, W) images to a (B, D, h, w) feature map and knows D as
`num_features`. State keys are those of the published files; where timm's block forces another name, the trunk's
attribute `published_keys` holds the rules from theirs to ours (see `vreid.models.keys`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from torch import Tensor, nn

from vreid.models.ibn import IBN


class SqueezeExcite(nn.Module):
    """Weigh each channel by what the whole map holds: two bias-free linear layers, (B, C, H, W) -> same shape.

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
    """A ResNet or ResNeXt of timm with stride 1 in layer4: stride 16.

    Args:
        name: in timm.
        ibn: "a" puts `IBN` in place of bn1 in every block of layer1 to layer3; "b" puts instance normalisation in place
            of the stem's batch normalisation and behind the residual sum that ends layer1 and layer2.
        squeeze: `SqueezeExcite` behind bn3, before the residual sum.
        last_stride: of layer4; 2, as in the original network, makes a stride of 32.
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
    # Not timm's output_stride=16: that would also dilate the blocks that follow, which the papers' networks do not.
    for module in backbone.layer4[0].modules():
        if isinstance(module, nn.Conv2d) and last_stride == 1:
            module.stride = (1, 1)
    return backbone  # type: ignore[no-any-return]


def densenet(name: str, **options: Any) -> nn.Module:
    """A DenseNet of timm with IBN-a, stride 32: norm1 of every third layer of the first three blocks, batch part first.

    The map is cut at 0 behind the last norm. `options` are further arguments of the timm network.
    """
    backbone = _timm(name, options)
    for number in (1, 2, 3):
        layers = list(getattr(backbone.features, f"denseblock{number}").values())
        for layer in layers[::3]:
            layer.norm1 = IBN(layer.norm1.num_features, ratio=0.4, batch_first=True, relu=True)
    return backbone  # type: ignore[no-any-return]


def resnest(name: str, **options: Any) -> nn.Module:
    """A ResNeSt of timm with stride 1 in layer4, whose blocks but the first are dilated by 2: stride 16.

    Source: Zhang et al., "ResNeSt: Split-Attention Networks", CVPRW 2022, as DMT uses it. The first block of layer2 to
    layer4 averages 3 x 3 behind conv2 (with the stride of the layer, so layer4 keeps the average at stride 1).
    """
    backbone = _timm(name, options)
    first, *others = backbone.layer4
    first.avd_last.stride = 1
    first.downsample[0] = nn.Identity()  # the published network averages 1 x 1 here
    for block in others:
        block.conv2.conv.dilation = block.conv2.conv.padding = (2, 2)
    return backbone  # type: ignore[no-any-return]


def _timm(name: str, options: dict[str, Any]) -> Any:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)

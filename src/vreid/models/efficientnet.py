"""Tensor names of EfficientNet-Lite0 in efficientnet-pytorch and in timm."""

from __future__ import annotations

from collections.abc import Iterator

IMAGENET_BACKBONE = "tf_efficientnet_lite0"
"""The backbone (of timm) whose ImageNet weights are available as a Python package; images have mean and std 0.5."""
_BLOCKS_OF_STAGES = (1, 2, 2, 3, 3, 4, 1)
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _rules() -> Iterator[tuple[str, str | None]]:
    yield from ((r"_conv_stem\.", "conv_stem."), (r"_bn0\.", "bn1."), (r"_conv_head\.", "conv_head."))
    yield from ((r"_bn1\.", "bn2."), (r"_fc\.", None))
    places = [(stage, block) for stage, count in enumerate(_BLOCKS_OF_STAGES) for block in range(count)]
    for number, (stage, block) in enumerate(places):
        for old, new in (_INVERTED if stage else _SEPARABLE).items():
            yield rf"_blocks\.{number}\.{old}\.", f"blocks.{stage}.{block}.{new}."


EFFICIENTNET_LITE0_KEYS: tuple[tuple[str, str | None], ...] = tuple(_rules())
"""Renaming rules (see `vreid.models.keys`) for the weights file of `vreid.models.published.IMAGENET`."""

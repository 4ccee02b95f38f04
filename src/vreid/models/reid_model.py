"""The re-identification model: trunk -> pooling -> f_t -> BNNeck -> f_i -> classifier.

Source: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019, as used by
DMT (Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021, section 3.1).

Shape legend: B images in a batch, D feature length, C identities, H x W pixels, h x w feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.models.backbones import build_trunk
from vreid.models.weights import load_pretrained

Pooling = Literal["average", "gem"]


@dataclass(frozen=True)
class ModelConfig:
    """Which model: everything but the number of identities, which the data decide.

    Attributes:
        backbone: a name in `TRUNKS`.
        pooling: "average", or "gem" (generalised mean, p = 3 at the start, learned).
        neck: batch normalisation between the triplet's feature and the classifier's.
        weights: file with weights to start from ("" for a random start); see `load_pretrained`.
    """

    backbone: str = "resnet50_ibn_a"
    pooling: Pooling = "average"
    neck: bool = True
    weights: str = ""


class TrainOutputs(NamedTuple):
    """What the losses see: `logits` (B, C) and `pooled` (B, D), the feature f_t before the neck."""

    logits: Tensor
    pooled: Tensor


class GeM(nn.Module):
    """Generalised-mean pooling (mean of x^p)^(1/p): (B, D, h, w) -> (B, D); p = 1 is the average, large p the maximum.

    Source: Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019. Values below
    `epsilon` count as `epsilon`; powers are taken in float32 whatever autocast says, since x^3 overflows halves.
    """

    def __init__(self, p: float = 3.0, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.epsilon = epsilon

    def forward(self, maps: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D) float32."""
        with torch.autocast(maps.device.type, enabled=False):
            powers = maps.float().clamp(min=self.epsilon).pow(self.p)
            return powers.mean(dim=(2, 3)).pow(1.0 / self.p)


class ReidModel(nn.Module):
    """Trunk, pooling, BNNeck and classifier as one module.

    In training, (B, 3, H, W) images give `TrainOutputs`; in evaluation they give the raw feature after the neck,
    (B, D), not normalised, so that views can be summed before normalisation.

    Args:
        backbone: maps (B, 3, H, W) to (B, D, h, w) and has the attribute `num_features` = D.
        num_identities: C; None for a model that only extracts.
        pooling: "average" or "gem".
        neck: BatchNorm1d with weight 1 and a bias frozen at 0; without it f_i is f_t.

    Example:
        >>> model = build("resnet10_ibn_a_tiny").eval()
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 64])
    """

    def __init__(
        self, backbone: nn.Module, num_identities: int | None = None, pooling: Pooling = "average", neck: bool = True
    ) -> None:
        super().__init__()
        if pooling not in ("average", "gem"):
            raise InputError(f"There is no pooling {pooling!r}; choose average or gem.")
        self.backbone = backbone
        self.num_features = int(backbone.num_features)  # type: ignore[arg-type]
        self.num_identities = num_identities
        self.pool: nn.Module = GeM() if pooling == "gem" else _Average()
        self.neck: nn.Module = _neck(self.num_features) if neck else nn.Identity()
        self.classifier: nn.Linear | None = None
        if num_identities is not None:
            self.classifier = nn.Linear(self.num_features, num_identities, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, images_B3HW: Tensor) -> TrainOutputs | Tensor:
        """(B, 3, H, W) -> `TrainOutputs` in training, the raw feature after the neck (B, D) in evaluation."""
        maps_BDhw = self.backbone(images_B3HW)
        pooled_BD: Tensor = self.pool(maps_BDhw)
        feature_BD: Tensor = self.neck(pooled_BD)
        if not self.training:
            return feature_BD
        if self.classifier is None:
            raise RuntimeError("This model was built without num_identities; it extracts but cannot train.")
        return TrainOutputs(self.classifier(feature_BD), pooled_BD)


class _Average(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3), dtype=torch.float32)  # in one pass, without rounding f_t to a half


def _neck(num_features: int) -> nn.BatchNorm1d:
    neck = nn.BatchNorm1d(num_features)
    neck.bias.requires_grad_(False)
    return neck


def build(
    name: str,
    num_identities: int | None = None,
    weights: Path | str | None = None,
    *,
    pooling: Pooling = "average",
    neck: bool = True,
) -> ReidModel:
    """Build the model whose trunk is `name`; random weights unless a file of weights is given.

    Raises:
        InputError: unknown name, or weights that do not fit (every missing and unexpected key is reported).
    """
    model = ReidModel(build_trunk(name), num_identities, pooling, neck)
    if weights:
        load_pretrained(model, weights)
    return model

"""The re-identification model: backbone -> pooling -> f_t -> BNNeck -> f_i -> classifier.

Source: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019, as used by
DMT (Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021, section 3.1).

Shape legend: B images in a batch, D feature length, C identities, H x W pixels, h x w feature map, L local features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.formats.facts import typed
from vreid.models.backbones import build_backbone
from vreid.models.heads import Heads, plain_linear
from vreid.models.keys import load_pretrained
from vreid.models.published import described, located
from vreid.models.transreid import TransReIDOptions

Pooling = Literal["average", "gem"]

CLASSIFIERS = ("classifier.", "local_classifiers.")
"""Prefixes of the weights of the classifiers of identities."""


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a model, except for the number of identities, which depends on the data.

    Attributes:
        backbone: a name in `BACKBONES` or in timm.
        pooling: "average", or "gem" (generalised mean with learned p, initially 3).
        neck: batch normalisation between the triplet's feature and the classifier's (BNNeck).
        weights: file of pretrained weights, "simulated" for the shipped weights, "imagenet" for ImageNet weights of
            tf_efficientnet_lite0, "hub" for those that timm publishes for the backbone, "" for random weights; see
            `load_pretrained`.
        transreid: options of a TransReID backbone.
    """

    backbone: str = "resnet50_ibn_a"
    pooling: Pooling = "average"
    neck: bool = True
    weights: str = ""
    transreid: TransReIDOptions = field(default_factory=TransReIDOptions)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> ModelConfig:
        """Build the configuration from its JSON form; fields missing in older files take their defaults.

        Raises:
            KeyError: the backbone is missing.
            InputError: a field has a wrong type or is unknown.
        """
        return typed(cls, {**plain, "backbone": plain["backbone"]}, "model")

    @property
    def weights_path(self) -> Path | None:
        """The file that `weights` names; None for random weights.

        Raises:
            InputError: as `located`.
        """
        return located(self.weights, self.backbone) if self.weights else None

    @property
    def initialisation(self) -> str:
        """Description of the initial weights, as in reports, result rows and model files.

        Raises:
            InputError: the file does not exist.

        Example:
            >>> ModelConfig().initialisation
            'random'
        """
        return "random" if self.weights_path is None else described(self.weights, self.weights_path)


class TrainOutputs(NamedTuple):
    """Outputs in training: `logits` (B, C) and `pooled` (B, D), the feature f_t before the neck.

    A TransReID with JPM returns the same for each local feature: `local_logits` and `local_pooled`, L tensors each.
    `heads` holds the outputs of further heads on the global f_t, by name.
    """

    logits: Tensor
    pooled: Tensor
    local_logits: tuple[Tensor, ...] = ()
    local_pooled: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = MappingProxyType({})


class GeM(nn.Module):
    """Generalised-mean pooling (mean of x^p)^(1/p): (B, D, h, w) -> (B, D); p = 1 is the average, large p the maximum.

    Source: Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019. Values below
    `epsilon` are raised to `epsilon`; powers are computed in float32 even under autocast, since x^3 overflows float16.
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
    """Backbone, pooling, BNNeck and classifier as one module.

    In training, images (B, 3, H, W) give `TrainOutputs`; in evaluation they give the raw feature after the neck,
    (B, `num_features`), not normalised, so that views can be summed before normalisation.

    Args:
        backbone: maps (B, 3, H, W) to (B, D, h, w) and has the attribute `num_features` = D. If its attribute `pools`
            is true, it returns (B, D); if its attribute `num_local` is L > 0, it returns (B, 1 + L, D): the global
            feature, then the local ones, each with its own neck and classifier. In evaluation they are concatenated,
            the local ones divided by L; `num_features` is (1 + L) D.
        num_identities: C; None for a model without classifier, for extraction only.
        pooling: "average" or "gem".
        neck: BatchNorm1d with initial weight 1 and a bias frozen at 0; without it f_i is f_t and the classifier has a
            bias (StRDAN).
        heads: number of outputs of further heads on f_t, by name; see `vreid.models.heads`.

    Attributes:
        cameras: names of the training cameras in the order of their embeddings, if a TransReID has camera embeddings.

    Raises:
        InputError: the pooling is unknown, or "gem" for a backbone with its own pooling.

    Example:
        >>> model = build("resnet10_ibn_a_tiny").eval()
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_identities: int | None = None,
        pooling: Pooling = "average",
        neck: bool = True,
        heads: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        if pooling not in ("average", "gem"):
            raise InputError(f"There is no pooling {pooling!r}; choose average or gem.")
        pools = getattr(backbone, "pools", False)
        if pools and pooling != "average":
            raise InputError(f"pooling is {pooling}, but this backbone has its own pooling; set pooling=average.")
        self.backbone = backbone
        self.num_identities = num_identities
        self.cameras: tuple[str, ...] = ()
        self.num_local = int(getattr(backbone, "num_local", 0))
        length = int(backbone.num_features)  # type: ignore[arg-type]
        self.num_features = length * (1 + self.num_local)
        self.pool: nn.Module = nn.Identity() if pools else GeM() if pooling == "gem" else _Average()
        self.neck = _neck(length, neck)
        self.local_necks = nn.ModuleList(_neck(length, neck) for _ in range(self.num_local))
        self.classifier: nn.Linear | None = None
        self.local_classifiers = nn.ModuleList()
        if num_identities is not None:
            self.classifier = _classifier(length, num_identities, neck)
            self.local_classifiers.extend(_classifier(length, num_identities, neck) for _ in range(self.num_local))
        self.heads = Heads(length, heads)

    def forward(self, images_B3HW: Tensor, *, reversal: float = 0.0, **labels: Tensor) -> TrainOutputs | Tensor:
        """(B, 3, H, W) -> `TrainOutputs` in training, the raw feature after the neck in evaluation.

        `reversal` is the strength of gradient reversal for adversarial heads in training. `labels` are passed to the
        backbone: `camera` and `view` (B,), if a TransReID has embeddings for them.

        Raises:
            InputError: a network of timm does not accept images of this size.
        """
        globally_BD, *locally_BD = self._pooled(images_B3HW, labels)
        if not self.training:
            return self._feature(globally_BD, locally_BD)
        if self.classifier is None:
            raise RuntimeError(
                "This model was built without num_identities; it cannot be trained, only used to extract."
            )
        feature_BD: Tensor = self.neck(globally_BD)
        local_features = (neck(one) for neck, one in zip(self.local_necks, locally_BD, strict=True))
        local_logits = (classify(one) for classify, one in zip(self.local_classifiers, local_features, strict=True))
        heads = self.heads(globally_BD, reversal)
        return TrainOutputs(self.classifier(feature_BD), globally_BD, tuple(local_logits), tuple(locally_BD), heads)

    def describe(self, images_B3HW: Tensor, **labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, H, W) -> the raw feature after the neck (B, `num_features`), and the outputs of the heads by name.

        For a model in evaluation mode; `forward` there computes the feature alone.
        """
        globally_BD, *locally_BD = self._pooled(images_B3HW, labels)
        return self._feature(globally_BD, locally_BD), self.heads(globally_BD, 0.0)

    def _pooled(self, images_B3HW: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The global f_t (B, D), then the local ones."""
        try:
            maps_BDhw = self.backbone(images_B3HW, **labels)
        except AssertionError as error:  # raised by timm's networks for a wrong image size
            size = " x ".join(map(str, images_B3HW.shape[2:]))
            raise InputError(f"This backbone cannot take images of {size}: {error}; change their size.") from error
        pooled: Tensor = self.pool(maps_BDhw).float()
        return tuple(pooled.unbind(dim=1)) if self.num_local else (pooled,)

    def _feature(self, globally_BD: Tensor, locally_BD: Sequence[Tensor]) -> Tensor:
        """Global and local features after their necks, (B, `num_features`)."""
        feature_BD: Tensor = self.neck(globally_BD)
        local_features = [neck(one) for neck, one in zip(self.local_necks, locally_BD, strict=True)]
        parts = [feature_BD, *(one / self.num_local for one in local_features)]
        return torch.cat(parts, dim=1) if self.num_local else feature_BD


class _Average(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3), dtype=torch.float32)  # one pass, without rounding f_t to 16 bits


def _neck(length: int, wanted: bool) -> nn.Module:
    if not wanted:
        return nn.Identity()
    neck = nn.BatchNorm1d(length)
    neck.bias.requires_grad_(False)
    return neck


def _classifier(length: int, num_identities: int, neck: bool) -> nn.Linear:
    if not neck:
        return plain_linear(length, num_identities)
    classifier = nn.Linear(length, num_identities, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier


def build(
    name: str,
    num_identities: int | None = None,
    weights: Path | str | None = None,
    *,
    pooling: Pooling = "average",
    neck: bool = True,
    transreid: TransReIDOptions | None = None,
    heads: Mapping[str, int] = MappingProxyType({}),
) -> ReidModel:
    """Build the model with backbone `name` and random weights, or pretrained ones if `weights` is set.

    Raises:
        InputError: unknown name, incompatible options, or weights that do not fit (every missing and unexpected key is
            reported).
    """
    model = ReidModel(build_backbone(name, transreid), num_identities, pooling, neck, heads)
    if weights:
        load_pretrained(model, weights, name)
    return model


def build_from(
    config: ModelConfig, num_identities: int | None = None, heads: Mapping[str, int] = MappingProxyType({})
) -> ReidModel:
    """Build the model of `config` with its pretrained weights; see `build`."""
    return build(
        config.backbone,
        num_identities,
        config.weights or None,
        pooling=config.pooling,
        neck=config.neck,
        transreid=config.transreid,
        heads=heads,
    )

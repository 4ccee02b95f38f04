"""Training objective: the weighted sum of the configured losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vreid.losses import (
    circle_loss,
    circular_loss,
    classification_loss,
    contrastive_loss,
    metric_loss,
    triplet_loss,
)
from vreid.models.reid_model import TrainOutputs
from vreid.ranges import in_range
from vreid.training.targets import POSITIVES


@dataclass(frozen=True)
class LossConfig:
    """Losses and their weights; the defaults are those of DMT's code.

    Attributes:
        identity: weight of the classifier's cross-entropy.
        label_smoothing: label smoothing of that cross-entropy.
        triplet: weight of the batch-hard triplet loss on f_t; 0 disables it.
        triplet_form, triplet_squared, triplet_margin: see `vreid.losses.triplet_loss`.
        circle: weight of the circle loss on f_t; 0 disables it.
        circle_margin, circle_scale: m and gamma of `vreid.losses.circle_loss`.
        contrastive: weight of the supervised contrastive loss on f_t; 0 disables it.
        contrastive_temperature: see `vreid.losses.contrastive_loss`.
        metric: name of a further loss of pytorch-metric-learning on f_t, "" for none; see `vreid.losses.metric_loss`.
        metric_weight: its weight.
        domain: weight of the domain head's loss, independent of the strength of gradient reversal.
        attributes: weight of the losses of the color, vehicle_type and orientation heads: w of StRDAN's equation 1.
    """

    identity: float = in_range(1.0, least=0, most=1_000_000)
    label_smoothing: float = in_range(0.0, least=0, most=1)
    triplet: float = in_range(1.0, least=0, most=1_000_000)
    triplet_form: Literal["soft", "hinge"] = "soft"
    triplet_squared: bool = False
    triplet_margin: float = in_range(0.0, least=0, most=1_000_000)
    circle: float = in_range(0.0, least=0, most=1_000_000)
    circle_margin: float = in_range(0.35, least=0, most=1)
    circle_scale: float = in_range(64.0, least=1e-6, most=1_000_000)
    contrastive: float = in_range(0.0, least=0, most=1_000_000)
    contrastive_temperature: float = in_range(0.1, least=1e-3, most=100)
    metric: str = ""
    metric_weight: float = in_range(1.0, least=0, most=1_000_000)
    domain: float = in_range(1.0, least=0, most=1_000_000)
    attributes: float = in_range(1.0, least=0, most=1_000_000)


class Objective(nn.Module):
    """Weighted loss terms by name from (outputs, labels (B,) by name); training minimises their sum.

    Identity cross-entropy and triplet loss of DMT and StRDAN (StRDAN: equations 1 to 5), circle loss (VOC-ReID), and
    one loss per head.
    Where a model gives local features besides the global one (TransReID's JPM), each of these losses is half that of
    the global and half the mean of the local ones (He et al., "TransReID", ICCV 2021, equation 3).

    Args:
        config: the weights.
        target: target of the classifier: the name of its labels and of its term.
        num_classes, num_features: how many identities there are, and length of f_t; for losses that learn something for
            each identity.
    """

    def __init__(
        self, config: LossConfig, target: str = "identity", *, num_classes: int = 0, num_features: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.target = target
        self.metric = None
        if config.metric and config.metric_weight:
            self.metric = metric_loss(config.metric, num_classes=num_classes, num_features=num_features)

    def forward(self, outputs: TrainOutputs, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each term: its weight times its loss."""
        config, positives, terms = self.config, labels[POSITIVES], {}
        if config.identity:
            smoothing = config.label_smoothing
            losses = [
                classification_loss(logits, labels[self.target], label_smoothing=smoothing)
                for logits in (outputs.logits, *outputs.local_logits)
            ]
            terms[self.target] = config.identity * _with_locals(losses)
        if config.triplet:
            form, squared, margin = config.triplet_form, config.triplet_squared, config.triplet_margin
            losses = [
                triplet_loss(features, positives, form=form, squared=squared, margin=margin)
                for features in (outputs.pooled, *outputs.local_pooled)
            ]
            terms["triplet"] = config.triplet * _with_locals(losses)
        if config.circle:
            losses = [
                circle_loss(features, positives, margin=config.circle_margin, scale=config.circle_scale)
                for features in (outputs.pooled, *outputs.local_pooled)
            ]
            terms["circle"] = config.circle * _with_locals(losses)
        if config.contrastive:
            losses = [
                contrastive_loss(features, positives, temperature=config.contrastive_temperature)
                for features in (outputs.pooled, *outputs.local_pooled)
            ]
            terms["contrastive"] = config.contrastive * _with_locals(losses)
        if self.metric is not None:
            with torch.autocast(outputs.pooled.device.type, enabled=False):
                terms["metric"] = config.metric_weight * self.metric(outputs.pooled.float(), positives)
        for name, said in outputs.heads.items():
            weight = config.domain if name == "domain" else config.attributes
            loss = circular_loss if labels[name].is_floating_point() else classification_loss
            terms[f"head {name}"] = weight * loss(said, labels[name])
        return terms


def _with_locals(losses: list[Tensor]) -> Tensor:
    """Return the global loss, or half of it plus half the mean of the local losses."""
    first, *local = losses
    return 0.5 * first + 0.5 * torch.stack(local).mean() if local else first

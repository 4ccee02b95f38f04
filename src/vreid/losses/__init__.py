"""Loss functions. Each takes tensors and returns a float32 scalar."""

from vreid.losses.circle import circle_loss
from vreid.losses.classification import NO_LABEL, circular_loss, classification_loss
from vreid.losses.contrastive import contrastive_loss
from vreid.losses.metric import metric_loss
from vreid.losses.triplet import batch_hard_pairs, triplet_loss

__all__ = [
    "NO_LABEL",
    "batch_hard_pairs",
    "circle_loss",
    "circular_loss",
    "classification_loss",
    "contrastive_loss",
    "metric_loss",
    "triplet_loss",
]

"""Cross-entropy over identities."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def identity_loss(logits: Tensor, identities: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of `logits` (B, C) against `identities` (B,) int64, in float32.

    With smoothing e the target is (1 - e) one-hot + e / C (Szegedy et al., "Rethinking the Inception Architecture",
    CVPR 2016, section 7); DMT uses e = 0.
    """
    return functional.cross_entropy(logits.float(), identities, label_smoothing=label_smoothing)

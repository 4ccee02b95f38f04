"""Supervised contrastive loss.

Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2 (L_out).
Shape legend: B images in the batch, D feature length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def contrastive_loss(features: Tensor, identities: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Compute the supervised contrastive loss of a batch.

    The mean over images and their positives p of -log(exp(s_p / t) / sum_a exp(s_a / t)), where s are the cosine
    similarities of the image to the other images a of the batch and t is `temperature`. Images without a positive are
    ignored; a batch without any gives 0. Computed in float32, also under autocast.

    Args:
        features: (B, D), not necessarily normalised.
        identities: (B,) integers.
        temperature: t; the lower, the more the nearest negatives count.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> round(float(contrastive_loss(features, torch.tensor([0, 0, 1]), temperature=1.0)), 4)
        0.3133
    """
    with torch.autocast(features.device.type, enabled=False):
        unit_BD = functional.normalize(features.float(), dim=1)
        self_BB = torch.eye(len(identities), dtype=torch.bool, device=features.device)
        positive_BB = (identities[:, None] == identities[None, :]) & ~self_BB
        usable = positive_BB.any(dim=1)
        logits_BB = (unit_BD @ unit_BD.T / temperature).masked_fill(self_BB, -torch.inf)
        surprise_BB = torch.logsumexp(logits_BB, dim=1, keepdim=True) - logits_BB
        mean_B = surprise_BB.masked_fill(~positive_BB, 0).sum(dim=1) / positive_BB.sum(dim=1).clamp(min=1)
        return mean_B.sum() / usable.sum().clamp(min=1)

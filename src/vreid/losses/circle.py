"""Circle loss with pairwise labels.

Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, equations 4 to 8.
Shape legend: B images in the batch, D feature length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def circle_loss(features: Tensor, identities: Tensor, *, margin: float = 0.35, scale: float = 64.0) -> Tensor:
    """Compute the circle loss of a batch.

    The mean over images of softplus(logsumexp_n scale a_n (s_n - m) + logsumexp_p scale a_p (1 - m - s_p)), where s are
    the cosine similarities of the image to its positives (p) and negatives (n) in the batch; the weights
    a_p = max(0, 1 + m - s_p) and a_n = max(0, s_n + m) have no gradient; m is `margin`. Images without a positive or
    without a negative are ignored; a batch without any usable image gives 0. Computed in float32, also under autocast.

    Args:
        features: (B, D), not necessarily normalised.
        identities: (B,) integers.
        margin: relaxation m, from 0 to 1. The defaults are VOC-ReID's.
        scale: gamma of the paper.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> round(float(circle_loss(features, torch.tensor([0, 0, 1]), margin=0.5, scale=4.0)), 4)
        0.1269
    """
    with torch.autocast(features.device.type, enabled=False):
        unit_BD = functional.normalize(features.float(), dim=1)
        same_BB = identities[:, None] == identities[None, :]
        positive_BB = same_BB & ~torch.eye(len(identities), dtype=torch.bool, device=features.device)
        usable = positive_BB.any(dim=1) & ~same_BB.all(dim=1)
        similar_BB = unit_BD @ unit_BD.T
        fixed_BB = similar_BB.detach()
        pull_BB = scale * functional.relu(1 + margin - fixed_BB) * (1 - margin - similar_BB)
        push_BB = scale * functional.relu(fixed_BB + margin) * (similar_BB - margin)
        # Rows that are not usable get zeros, not an index: the number of rows would be read from the device.
        unusable_B1 = ~usable[:, None]
        total_B = torch.logsumexp(pull_BB.masked_fill(~positive_BB, -torch.inf).masked_fill(unusable_B1, 0), dim=1)
        total_B = total_B + torch.logsumexp(push_BB.masked_fill(same_BB, -torch.inf).masked_fill(unusable_B1, 0), dim=1)
        return (functional.softplus(total_B) * usable).sum() / usable.sum().clamp(min=1)

"""Batch-hard triplet loss: each image against its farthest mate and its nearest stranger in the batch.

Source: Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737, equation 5 and
the soft margin of section 3.2. Shape legend: B images in the batch, D feature length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vreid.errors import InputError

_SMALLEST = 1e-12  # of a squared distance, so that the root has a gradient


def batch_hard_pairs(features: Tensor, identities: Tensor) -> tuple[Tensor, Tensor]:
    """Index (B,) of the farthest image of the same identity (possibly itself) and of the nearest of another.

    Works for any number of images per identity. `features` is (B, D), `identities` (B,).

    Raises:
        InputError: only one identity in the batch.
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        features = features.float()
        squared_norms = features.square().sum(dim=1)
        distances_BB = squared_norms[:, None] + squared_norms[None, :] - 2.0 * features @ features.T
        same_BB = identities[:, None] == identities[None, :]
        if bool(same_BB.all()):
            raise InputError("The triplet loss needs two or more identities in a batch; raise num_identities.")
        farthest = distances_BB.masked_fill(~same_BB, -torch.inf).argmax(dim=1)
        nearest = distances_BB.masked_fill(same_BB, torch.inf).argmin(dim=1)
    return farthest, nearest


def triplet_loss(
    features: Tensor,
    identities: Tensor,
    *,
    form: Literal["soft", "hinge"] = "soft",
    squared: bool = False,
    margin: float = 0.0,
) -> Tensor:
    """Mean over the batch of log(1 + exp(d_ap - d_an + margin)), or of max(0, d_ap - d_an + margin) as "hinge".

    d is the Euclidean distance of un-normalised features (B, D), or its square; d_ap to the hardest positive, d_an to
    the hardest negative. Computed in float32 whatever autocast says. The defaults are DMT's code; `squared=True` with
    a margin is its equation 1; `form="hinge", margin=0.3` is StRDAN's.

    Raises:
        InputError: only one identity in the batch, or an unknown form.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [3.0]])
        >>> round(float(triplet_loss(features, torch.tensor([0, 0, 1]), form="hinge", margin=2.5)), 4)
        0.8333
    """
    if form not in ("soft", "hinge"):
        raise InputError(f"There is no triplet form {form!r}; choose soft or hinge.")
    farthest, nearest = batch_hard_pairs(features, identities)
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        # Mined pairs are measured again by their difference: exact for near neighbours, where the matrix cancels.
        gap = _distance(features, features[farthest], squared) - _distance(features, features[nearest], squared)
        losses = functional.softplus(gap + margin) if form == "soft" else functional.relu(gap + margin)
        return losses.mean()


def _distance(left: Tensor, right: Tensor, squared: bool) -> Tensor:
    total = (left - right).square().sum(dim=1).clamp(min=_SMALLEST)
    return total if squared else total.sqrt()

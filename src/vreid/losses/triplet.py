"""Batch-hard triplet loss: the farthest positive and the nearest negative of each image in the batch.

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
    """Find the hardest positive (possibly the image itself) and the hardest negative of each image: two indices (B,).

    Works for any number of images per identity. `features` is (B, D), `identities` (B,).

    Raises:
        InputError: the batch has only one identity. (Not checked on a GPU, since reading waits for the device; no
            sampler draws such a batch.)
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        features = features.float()
        squared_norms = features.square().sum(dim=1)
        distances_BB = squared_norms[:, None] + squared_norms[None, :] - 2.0 * features @ features.T
        same_BB = identities[:, None] == identities[None, :]
        if features.device.type == "cpu" and bool(same_BB.all()):
            raise InputError("The triplet loss needs two or more identities in a batch; increase num_identities.")
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
    """Compute the batch-hard triplet loss of a batch.

    The mean over images of log(1 + exp(d_ap - d_an + margin)) or, for `form="hinge"`, max(0, d_ap - d_an + margin).
    d_ap and d_an are Euclidean (or squared) distances of un-normalised features (B, D) to the hardest positive and
    negative. Computed in float32, also under autocast. The defaults are those of DMT's code; `squared=True` with a
    margin is its equation 1; `form="hinge", margin=0.3` is StRDAN's.

    Raises:
        InputError: the batch has only one identity, or the form is unknown.

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
        # Distances of the mined pairs are recomputed from differences: the matrix form cancels for close features.
        gap = _distance(features, features[farthest], squared) - _distance(features, features[nearest], squared)
        losses = functional.softplus(gap + margin) if form == "soft" else functional.relu(gap + margin)
        return losses.mean()


def _distance(left: Tensor, right: Tensor, squared: bool) -> Tensor:
    total = (left - right).square().sum(dim=1).clamp(min=_SMALLEST)
    return total if squared else total.sqrt()

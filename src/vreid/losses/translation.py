"""What a translation between two domains is asked for: to look real, to be undone, and to keep what is there.

Source: Deng et al., SPGAN, CVPR 2018, with the constants of its PyTorch port for VehicleX. A is the synthetic domain, B
the real one. Shape legend: A, B images of either domain in the batch, D embedding length.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

_SMALLEST = 1e-12  # of a squared distance, so that the root has a gradient


def adversarial_loss(scores: Tensor, *, real: bool) -> Tensor:
    """Mean of (score - 1)^2 where patches are to be called real, of score^2 where made (Mao et al., LSGAN, ICCV 2017).

    Example:
        >>> import torch
        >>> float(adversarial_loss(torch.tensor([1.0, 0.5]), real=True))
        0.125
    """
    return (scores - float(real)).square().mean()


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of two batches of equal shape: the cycle term and the identity term."""
    return functional.l1_loss(made, wanted)


def positive_pairs(left_BD: Tensor, right_BD: Tensor) -> Tensor:
    """Mean squared distance of the embeddings of an image and of its translation, which are to be one vehicle."""
    return (left_BD - right_BD).square().sum(dim=1).mean()


def negative_pairs(left_AD: Tensor, right_BD: Tensor, margin: float = 2.0) -> Tensor:
    """Mean of max(0, margin - distance)^2 over pairs of images of two domains, which are never one vehicle.

    Of unequal batches the images that have no partner are left out. Embeddings of length 1 are at most 2 apart, so the
    paper's margin of 2 never lets go.
    """
    pairs = min(len(left_AD), len(right_BD))
    squared = (left_AD[:pairs] - right_BD[:pairs]).square().sum(dim=1).clamp(min=_SMALLEST)
    return functional.relu(margin - squared.sqrt()).square().mean()


class Embeddings(NamedTuple):
    """Of A synthetic images `a`, B real ones `b`, and the translations of either, which are as many."""

    a_AD: Tensor
    b_BD: Tensor
    a_as_b_AD: Tensor
    b_as_a_BD: Tensor


def keeping_loss(of: Embeddings, margin: float = 2.0) -> Tensor:
    """What the generators are asked: a translation stays near its image and away from the images that it imitates.

    (pos(a, a as b) + pos(b, b as a) + (neg(a as b, b) + neg(b as a, a)) / 2) / 4.
    """
    near = positive_pairs(of.a_AD, of.a_as_b_AD) + positive_pairs(of.b_BD, of.b_as_a_BD)
    far = negative_pairs(of.a_as_b_AD, of.b_BD, margin) + negative_pairs(of.b_as_a_BD, of.a_AD, margin)
    return (near + far / 2) / 4


def siamese_loss(of: Embeddings, margin: float = 2.0) -> Tensor:
    """What the Siamese net learns: (pos(a, a as b) + pos(b, b as a) + 2 neg(a, b)) / 3."""
    near = positive_pairs(of.a_AD, of.a_as_b_AD) + positive_pairs(of.b_BD, of.b_as_a_BD)
    return (near + 2 * negative_pairs(of.a_AD, of.b_BD, margin)) / 3

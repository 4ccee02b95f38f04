"""Losses of image translation between two domains: adversarial, cycle and identity loss, self-similarity.

Source: Deng et al., SPGAN, CVPR 2018, with the constants of its PyTorch port for VehicleX. A is the synthetic domain, B
the real one. Shape legend: A, B images of either domain in the batch, D embedding length.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

_SMALLEST = 1e-12  # of a squared distance, so that the root has a gradient


def adversarial_loss(scores: Tensor, *, real: bool) -> Tensor:
    """Compute the least-squares GAN loss: mean of (score - 1)^2 for the target `real`, else of score^2.

    Source: Mao et al., LSGAN, ICCV 2017.

    Example:
        >>> import torch
        >>> float(adversarial_loss(torch.tensor([1.0, 0.5]), real=True))
        0.125
    """
    return (scores - float(real)).square().mean()


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Compute the mean absolute difference of two batches, for the cycle loss and the identity loss."""
    return functional.l1_loss(made, wanted)


def positive_pairs(left_BD: Tensor, right_BD: Tensor) -> Tensor:
    """Compute the mean squared distance of the embeddings of images and their translations (positive pairs)."""
    return (left_BD - right_BD).square().sum(dim=1).mean()


def negative_pairs(left_AD: Tensor, right_BD: Tensor, margin: float = 2.0) -> Tensor:
    """Compute the mean of max(0, margin - distance)^2 over pairs of images of two domains (negative pairs).

    The domains share no vehicle. If the batches differ in size, images without a partner are ignored. Embeddings of
    length 1 are at most 2 apart, so the paper's margin of 2 is active for all pairs.
    """
    pairs = min(len(left_AD), len(right_BD))
    squared = (left_AD[:pairs] - right_BD[:pairs]).square().sum(dim=1).clamp(min=_SMALLEST)
    return functional.relu(margin - squared.sqrt()).square().mean()


class Embeddings(NamedTuple):
    """Embeddings of A synthetic images `a`, B real images `b`, and their translations."""

    a_AD: Tensor
    b_BD: Tensor
    a_as_b_AD: Tensor
    b_as_a_BD: Tensor


def self_similarity_loss(of: Embeddings, margin: float = 2.0) -> Tensor:
    """Compute the self-similarity loss of the generators.

    A translation stays close to its image and far from the images of the target domain:
    (pos(a, a as b) + pos(b, b as a) + (neg(a as b, b) + neg(b as a, a)) / 2) / 4.
    """
    near = positive_pairs(of.a_AD, of.a_as_b_AD) + positive_pairs(of.b_BD, of.b_as_a_BD)
    far = negative_pairs(of.a_as_b_AD, of.b_BD, margin) + negative_pairs(of.b_as_a_BD, of.a_AD, margin)
    return (near + far / 2) / 4


def siamese_loss(of: Embeddings, margin: float = 2.0) -> Tensor:
    """Compute the contrastive loss of the Siamese network: (pos(a, a as b) + pos(b, b as a) + 2 neg(a, b)) / 3."""
    near = positive_pairs(of.a_AD, of.a_as_b_AD) + positive_pairs(of.b_BD, of.b_as_a_BD)
    return (near + 2 * negative_pairs(of.a_AD, of.b_BD, margin)) / 3

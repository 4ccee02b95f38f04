"""Losses: what training pulls on. Each takes plain tensors and returns one float32 number."""

from vreid.losses.identity import identity_loss
from vreid.losses.triplet import batch_hard_pairs, triplet_loss

__all__ = ["batch_hard_pairs", "identity_loss", "triplet_loss"]

"""Losses against hand-worked numbers and slow oracles."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oracles import triplet as oracle
from vreid.errors import InputError
from vreid.losses import batch_hard_pairs, classification_loss, triplet_loss


def batch(seed: int, counts: list[int], dimensions: int = 5, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    identities = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = torch.randperm(len(identities), generator=generator)
    return scale * torch.randn(len(identities), dimensions, generator=generator), identities[order]


def test_triplet_hand_worked() -> None:
    # On a line: a at 0 and 2, b at 3 and 7. Hardest positive / negative distances: 2/3, 2/1, 4/1, 4/5.
    features = torch.tensor([[0.0], [2.0], [3.0], [7.0]])
    identities = torch.tensor([0, 0, 1, 1])
    gaps = [2 - 3, 2 - 1, 4 - 1, 4 - 5]
    soft = sum(math.log(1 + math.exp(gap)) for gap in gaps) / 4
    assert float(triplet_loss(features, identities)) == pytest.approx(soft, rel=1e-6)
    hinge = sum(max(gap + 0.3, 0) for gap in gaps) / 4
    assert float(triplet_loss(features, identities, form="hinge", margin=0.3)) == pytest.approx(hinge, rel=1e-6)
    squared_gaps = [4 - 9, 4 - 1, 16 - 1, 16 - 25]
    squared = sum(math.log(1 + math.exp(gap + 0.5)) for gap in squared_gaps) / 4
    assert float(triplet_loss(features, identities, squared=True, margin=0.5)) == pytest.approx(squared, rel=1e-6)


@given(
    seed=st.integers(0, 2**20),
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    form=st.sampled_from(["soft", "hinge"]),
    squared=st.booleans(),
    margin=st.sampled_from([0.0, 0.3]),
)
def test_triplet_equals_the_oracle_for_unequal_counts(
    seed: int, counts: list[int], form: str, squared: bool, margin: float
) -> None:
    features, identities = batch(seed, counts)
    ours = triplet_loss(features, identities, form=form, squared=squared, margin=margin)  # type: ignore[arg-type]
    slow = oracle.triplet_loss(features.tolist(), identities.tolist(), form=form, squared=squared, margin=margin)
    assert float(ours) == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_triplet_gradient_is_that_of_the_whole_matrix() -> None:
    features, identities = batch(3, [4, 4, 3])
    ours = features.clone().requires_grad_()
    triplet_loss(ours, identities).backward()
    plain = features.double().clone().requires_grad_()
    distances = (plain[:, None] - plain[None, :]).square().sum(-1).clamp(min=1e-12).sqrt()
    same = identities[:, None] == identities[None, :]
    farthest = distances.masked_fill(~same, -torch.inf).amax(1)
    nearest = distances.masked_fill(same, torch.inf).amin(1)
    torch.log1p(torch.exp(farthest - nearest)).mean().backward()
    assert ours.grad is not None and plain.grad is not None
    torch.testing.assert_close(ours.grad.double(), plain.grad, rtol=1e-4, atol=1e-6)


def test_triplet_of_equal_features_has_a_finite_gradient() -> None:
    features = torch.ones(6, 8, requires_grad=True)
    loss = triplet_loss(features, torch.tensor([0, 0, 1, 1, 2, 2]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-5)
    assert features.grad is not None and bool(torch.isfinite(features.grad).all())


def test_triplet_is_float32_under_autocast() -> None:
    features, identities = batch(1, [4, 4], dimensions=512)
    features = features + 30  # in halves the small differences would drown
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = triplet_loss(features, identities)
    assert inside.dtype == torch.float32
    assert float(inside) == float(triplet_loss(features, identities))


def test_pairs_of_a_single_image_are_itself() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    farthest, nearest = batch_hard_pairs(features, torch.tensor([0, 0, 1]))
    assert farthest.tolist() == [1, 0, 2]
    assert nearest.tolist() == [2, 2, 1]


def test_triplet_needs_two_identities_and_a_known_form() -> None:
    with pytest.raises(InputError, match="two or more identities"):
        triplet_loss(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    with pytest.raises(InputError, match="choose soft or hinge"):
        triplet_loss(torch.randn(2, 3), torch.tensor([0, 1]), form="hard")  # type: ignore[arg-type]


def test_classification_loss_by_hand_with_and_without_smoothing() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    log_sum = math.log(math.exp(2) + 2)
    assert float(classification_loss(logits, torch.tensor([0]))) == pytest.approx(log_sum - 2, rel=1e-6)
    smooth = 0.9 * (log_sum - 2) + 0.1 / 3 * ((log_sum - 2) + log_sum + log_sum)
    assert float(classification_loss(logits, torch.tensor([0]), label_smoothing=0.1)) == pytest.approx(smooth, rel=1e-6)
    assert classification_loss(logits.bfloat16(), torch.tensor([0])).dtype == torch.float32

"""Losses against hand-worked numbers and slow oracles."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oracles import circle as oracle_circle
from oracles import classification as slow_classification
from oracles import triplet as oracle
from vreid.errors import InputError
from vreid.losses import (
    batch_hard_pairs,
    circle_loss,
    circular_loss,
    classification_loss,
    contrastive_loss,
    metric_loss,
    triplet_loss,
)
from vreid.models import TrainOutputs
from vreid.recipes import RECIPES, recipe
from vreid.training.objective import Objective
from vreid.training.targets import POSITIVES
from vreid.training.train_config import LossConfig


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


def test_the_positive_of_a_single_image_is_itself() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    farthest, nearest = batch_hard_pairs(features, torch.tensor([0, 0, 1]))
    assert farthest.tolist() == [1, 0, 2]
    assert nearest.tolist() == [2, 2, 1]


def test_triplet_needs_two_identities_and_a_known_form() -> None:
    with pytest.raises(InputError, match="two or more identities"):
        triplet_loss(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    with pytest.raises(InputError, match="choose soft or hinge"):
        triplet_loss(torch.randn(2, 3), torch.tensor([0, 1]), form="hard")  # type: ignore[arg-type]


def test_circle_by_hand() -> None:
    """Two equal images and one at a right angle: s_p = 1, s_n = 0, each anchor of the pair has one of either."""
    features = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 0.5]])
    pull, push = -64 * 0.35 * 0.35, 64 * 0.35 * -0.35
    expected = math.log1p(math.exp(pull + push))  # the third image has no positive and is left out
    assert float(circle_loss(features, torch.tensor([0, 0, 1]))) == pytest.approx(expected, rel=1e-4)


@given(
    seed=st.integers(0, 2**20),
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    margin=st.sampled_from([0.0, 0.25, 0.35, 0.4]),
    scale=st.sampled_from([1.0, 16.0, 64.0]),
)
def test_circle_equals_the_oracle_for_unequal_counts(seed: int, counts: list[int], margin: float, scale: float) -> None:
    features, identities = batch(seed, counts)
    ours = circle_loss(features, identities, margin=margin, scale=scale)
    slow = oracle_circle.circle_loss(features.tolist(), identities.tolist(), margin=margin, scale=scale)
    assert float(ours) == pytest.approx(slow, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("margin", "scale"), [(0.35, 64.0), (0.4, 80.0), (0.25, 128.0)])
@pytest.mark.parametrize("counts", [[4, 4, 4], [2, 5, 3], [16, 16, 16, 16], [1, 1, 6], [1, 3, 1, 2]])
def test_circle_loss_and_gradient_equal_the_library(counts: list[int], margin: float, scale: float) -> None:
    """Cosine similarity of all pairs of different images; images without a positive or negative are ignored."""
    from pytorch_metric_learning.losses import CircleLoss

    for seed in range(3):
        given_features, identities = batch(seed, counts, dimensions=32)
        gradients, values = [], []
        for loss in (lambda *of: circle_loss(*of, margin=margin, scale=scale), CircleLoss(m=margin, gamma=scale)):
            features = given_features.clone().requires_grad_()
            value = loss(features, identities)
            value.backward()
            assert features.grad is not None
            gradients.append(features.grad)
            values.append(value.detach())
        torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_circle_of_equal_or_lone_features_has_a_finite_gradient() -> None:
    for identities in (torch.tensor([0, 0, 1, 1]), torch.arange(4), torch.zeros(4, dtype=torch.long)):
        for value in (0.0, 1.0):
            features = torch.full((4, 8), value, requires_grad=True)
            loss = circle_loss(features, identities)
            loss.backward()
            assert bool(torch.isfinite(loss)) and features.grad is not None
            assert bool(torch.isfinite(features.grad).all())
            assert (float(loss.detach()) == 0) == (len(identities.unique()) != 2)


def test_circle_is_float32_under_autocast() -> None:
    features, identities = batch(1, [4, 4], dimensions=512)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = circle_loss(features, identities)
    assert inside.dtype == torch.float32 and float(inside) == float(circle_loss(features, identities))
    halves = circle_loss(features.bfloat16(), identities)
    assert halves.dtype == torch.float32 and float(halves) == pytest.approx(float(inside), rel=0.05)


def test_the_circle_term_is_its_weight_times_the_loss_also_of_local_features() -> None:
    features, identities = batch(2, [3, 3])
    config = LossConfig(identity=0.0, triplet=0.0, circle=0.5, circle_margin=0.25, circle_scale=16.0)
    whole, *parts = (
        float(circle_loss(of, identities, margin=0.25, scale=16.0)) for of in (features, features + 1, features - 1)
    )
    logits = torch.zeros(6, 2)
    terms = Objective(config)(TrainOutputs(logits, features), labels(identities))
    assert {name: float(value) for name, value in terms.items()} == pytest.approx({"circle": 0.5 * whole})
    outputs = TrainOutputs(logits, features, (logits, logits), (features + 1, features - 1))
    terms = Objective(config)(outputs, labels(identities))
    assert float(terms["circle"]) == pytest.approx(0.5 * (0.5 * whole + 0.5 * sum(parts) / 2))


def test_classification_loss_by_hand_with_and_without_smoothing() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    log_sum = math.log(math.exp(2) + 2)
    assert float(classification_loss(logits, torch.tensor([0]))) == pytest.approx(log_sum - 2, rel=1e-6)
    smooth = 0.9 * (log_sum - 2) + 0.1 / 3 * ((log_sum - 2) + log_sum + log_sum)
    assert float(classification_loss(logits, torch.tensor([0]), label_smoothing=0.1)) == pytest.approx(smooth, rel=1e-6)
    assert classification_loss(logits.bfloat16(), torch.tensor([0])).dtype == torch.float32


@given(
    seed=st.integers(0, 2**20),
    classes=st.lists(st.integers(-1, 3), min_size=1, max_size=8),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_masked_classification_equals_the_oracle(seed: int, classes: list[int], smoothing: float) -> None:
    logits = 3 * torch.randn(len(classes), 4, generator=torch.Generator().manual_seed(seed))
    ours = classification_loss(logits, torch.tensor(classes), label_smoothing=smoothing)
    slow = slow_classification.classification_loss(logits.tolist(), classes, smoothing)
    assert float(ours) == pytest.approx(slow, rel=1e-5, abs=1e-6)


def test_images_without_a_label_get_no_gradient_and_do_not_count() -> None:
    logits = torch.zeros(3, 2, requires_grad=True)
    loss = classification_loss(logits, torch.tensor([0, -1, 1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert logits.grad is not None  # the mean over two images: (softmax - one-hot) / 2
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.25], [0.0, 0.0], [0.25, -0.25]]))
    nobody = torch.randn(2, 3, requires_grad=True)
    nothing = classification_loss(nobody, torch.tensor([-1, -1]))
    nothing.backward()
    assert float(nothing.detach()) == 0 and nobody.grad is not None and not nobody.grad.any()


@given(
    seed=st.integers(0, 2**20),
    degrees=st.lists(st.floats(0, 360, width=32) | st.just(math.nan), min_size=1, max_size=6),
)
def test_circular_loss_equals_the_oracle(seed: int, degrees: list[float]) -> None:
    directions = torch.randn(len(degrees), 2, generator=torch.Generator().manual_seed(seed))
    ours = circular_loss(directions, torch.tensor(degrees))
    slow = slow_classification.circular_loss(directions.tolist(), degrees)
    assert float(ours) == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_circular_loss_by_hand_has_no_gap_at_zero_and_no_nan_in_its_gradient() -> None:
    east = torch.tensor([[1.0, 0.0]])  # (sin, cos) of 90 degrees
    assert float(circular_loss(east, torch.tensor([270.0]))) == pytest.approx(4.0)
    at_one = torch.tensor([[math.sin(math.radians(1)), math.cos(math.radians(1))]])
    assert float(circular_loss(at_one, torch.tensor([359.0]))) == pytest.approx(
        4 * math.sin(math.radians(1)) ** 2, rel=1e-3
    )
    directions = torch.randn(2, 2, requires_grad=True)
    circular_loss(directions, torch.tensor([math.nan, 10.0])).backward()
    assert directions.grad is not None and bool(torch.isfinite(directions.grad).all()) and not directions.grad[0].any()


# ---------------------------------------------------------------- their weighted sum


def labels(identities: Tensor, **others: Tensor) -> dict[str, Tensor]:
    return {"identity": identities, POSITIVES: identities, **others}


def test_the_objective_is_each_weight_times_each_loss() -> None:
    features, identities = batch(0, [2, 2])
    logits, domain, color = torch.randn(4, 2), torch.randn(4, 2), torch.randn(4, 3)
    domains, colors = torch.tensor([0, 1, 0, 1]), torch.tensor([-1, 2, -1, 0])
    config = LossConfig(identity=2.0, triplet=3.0, triplet_form="hinge", triplet_margin=0.3, domain=5.0, attributes=7.0)
    outputs = TrainOutputs(logits, features, heads={"domain": domain, "color": color})
    terms = Objective(config)(outputs, labels(identities, domain=domains, color=colors))
    expected = {
        "identity": 2 * classification_loss(logits, identities),
        "triplet": 3 * triplet_loss(features, identities, form="hinge", margin=0.3),
        "head domain": 5 * classification_loss(domain, domains),
        "head color": 7 * classification_loss(color, colors),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(float(value))


def test_local_features_count_half_together() -> None:
    """TransReID's JPM: 0.5 of the global loss and 0.5 of the mean of the local ones, for both losses."""
    features, identities = batch(0, [2, 2])
    locals_ = [batch(seed, [2, 2])[0] for seed in (1, 2, 3, 4)]
    logits = [torch.randn(4, 2) for _ in range(5)]
    outputs = TrainOutputs(logits[0], features, tuple(logits[1:]), tuple(locals_))
    terms = Objective(LossConfig())(outputs, labels(identities))
    for name, loss, whole, parts in (
        ("identity", classification_loss, logits[0], logits[1:]),
        ("triplet", triplet_loss, features, locals_),
    ):
        expected = 0.5 * loss(whole, identities) + 0.5 * sum(loss(part, identities) for part in parts) / 4  # type: ignore[operator]
        assert float(terms[name]) == pytest.approx(float(expected), rel=1e-6)


# ---------------------------------------------------------------- pytorch-metric-learning


def test_a_loss_of_a_missing_library_reports_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)  # what an import of it then finds
    with pytest.raises(InputError, match="pytorch-metric-learning, which is not installed; pip install"):
        metric_loss("CircleLoss", num_classes=3, num_features=4)


def test_contrastive_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0], [0.0, 1.0]])
    identities = torch.tensor([0, 0, 1, 2])
    # over the temperature: image 1 has 0 (its positive), 2, 0 and image 2 has 0 (its positive), 0, 2
    expected = math.log(2 + math.exp(2))
    assert float(contrastive_loss(features, identities, temperature=0.5)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("counts", [[2, 2, 2], [1, 3, 4], [5, 1, 1]])
@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0])  # the library leaves out losses that round to 0
def test_contrastive_loss_and_gradient_equal_the_library(counts: list[int], temperature: float) -> None:
    library = pytest.importorskip("pytorch_metric_learning.losses")
    identities = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    found = []
    for loss in (
        lambda *of: contrastive_loss(*of, temperature=temperature),
        library.SupConLoss(temperature=temperature),
    ):
        features = torch.randn(len(identities), 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        value = loss(features, identities)
        value.backward()
        found.append((float(value.detach()), features.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_contrastive_without_positives_is_zero_with_a_finite_gradient() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(features, torch.arange(3))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0 and features.grad is not None and bool((features.grad == 0).all())


def test_the_contrastive_term_is_its_weight_times_the_loss() -> None:
    features, identities = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    config = LossConfig(identity=0.0, triplet=0.0, contrastive=0.5, contrastive_temperature=0.2)
    terms = Objective(config)(TrainOutputs(torch.zeros(6, 3), features), {POSITIVES: identities})
    expected = 0.5 * float(contrastive_loss(features, identities, temperature=0.2))
    assert {name: float(value) for name, value in terms.items()} == pytest.approx({"contrastive": expected})


def test_no_recipe_needs_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    for name in RECIPES:
        Objective(recipe(name).losses)
    crop = recipe("crop_model").losses
    assert (crop.circle, crop.circle_margin, crop.circle_scale, crop.triplet) == (1.0, 0.35, 64.0, 1.0)


def test_losses_of_pairs_need_pairs() -> None:
    with pytest.raises(InputError, match=r"circle loss needs several images .* needs losses\.circle=0"):
        recipe("small", {"batches": "images", "losses.triplet": "0", "losses.circle": "1"})
    with pytest.raises(InputError, match="num_instances is 1; the circle loss needs 2 or more"):
        recipe("small", {"num_instances": "1", "losses.triplet": "0", "losses.circle": "1"})
    alone = {"losses.identity": "0", "losses.triplet": "0"}
    assert recipe("small", {**alone, "losses.circle": "1"}).losses.circle == 1
    with pytest.raises(InputError, match="all 0; set one of them above 0"):
        recipe("small", alone)


def test_losses_with_parameters_receive_their_sizes_and_unknown_losses_raise() -> None:
    assert list(metric_loss("CircleLoss", num_classes=3, num_features=4).parameters()) == []
    for name in ("CosFaceLoss", "ArcFaceLoss"):
        made = metric_loss(name, num_classes=3, num_features=4)
        assert [tuple(parameter.shape) for parameter in made.parameters()] == [(4, 3)]
    with pytest.raises(InputError, match="has no loss 'Arcface'; did you mean 'ArcFaceLoss'"):
        metric_loss("Arcface", num_classes=3, num_features=4)
    with pytest.raises(InputError, match="SelfSupervisedLoss: requires more than"):
        metric_loss("SelfSupervisedLoss", num_classes=3, num_features=4)


def test_a_named_loss_adds_a_term_and_its_parameters() -> None:
    features, identities = batch(0, [2, 2], dimensions=4)
    config = LossConfig(identity=0.0, triplet=0.0, metric="CosFaceLoss", metric_weight=2.0)
    objective = Objective(config, num_classes=2, num_features=4)
    terms = objective(TrainOutputs(torch.zeros(4, 2), features), labels(identities))
    assert objective.metric is not None
    expected = 2 * float(objective.metric(features, identities).detach())
    assert {name: float(value.detach()) for name, value in terms.items()} == pytest.approx({"metric": expected})
    assert [name for name, _ in objective.named_parameters()] == ["metric.W"]


@pytest.mark.parametrize("name", ["CircleLoss", "ArcFaceLoss", "CosFaceLoss", "ProxyAnchorLoss", "TripletMarginLoss"])
def test_losses_of_the_library_train_features_and_proxies(name: str) -> None:
    features, identities = batch(0, [4, 4, 4])
    features.requires_grad_()
    made = metric_loss(name, num_classes=3, num_features=5)
    loss = made(features, identities)
    loss.backward()
    assert math.isfinite(float(loss.detach())) and features.grad is not None
    assert all(float(given.grad.abs().sum()) > 0 for given in (features, *made.parameters()))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("form", "margin"), [("soft", 0.0), ("soft", 0.3), ("hinge", 0.3)])
@pytest.mark.parametrize("counts", [[4, 4, 4], [2, 5, 3]])
def test_triplet_equals_the_library_with_its_hard_miner(
    counts: list[int], form: str, margin: float, squared: bool
) -> None:
    """Every image has a positive here: the library's miner skips images without one, ours does not."""
    from pytorch_metric_learning import distances, losses, miners, reducers

    distance = distances.LpDistance(normalize_embeddings=False, power=2 if squared else 1)
    features, identities = batch(3, counts)
    theirs = losses.TripletMarginLoss(
        margin=margin, smooth_loss=form == "soft", distance=distance, reducer=reducers.MeanReducer()
    )
    expected = theirs(features, identities, miners.BatchHardMiner(distance=distance)(features, identities))
    ours = triplet_loss(features, identities, form=form, squared=squared, margin=margin)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)

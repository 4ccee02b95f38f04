"""The gate's three decisions, their reasons, and invariances."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vreid.adaptation.gate import ACCEPT, REJECT, UNKNOWN, GateDecision, Limits, gate_adaptation, reference_labels
from vreid.adaptation.pseudo import PseudoLabels
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet, unit_rows

VEHICLES, CAMERAS, IMAGES, DIMENSIONS = 24, 3, 4, 32


class World:
    """Every vehicle passes every camera; a model is the weight of vehicle, camera and noise in its features."""

    def __init__(self, cameras: int = CAMERAS) -> None:
        random = np.random.default_rng(0)
        where = [(v, c) for v in range(VEHICLES) for c in range(cameras) for _ in range(IMAGES)]
        self.vehicle, self.camera = np.array(where).T
        self.records = Records.of(
            path=[f"{i:04d}.jpg" for i in range(len(where))],
            camera=[f"c{c}" for _, c in where],
            tracklet=[f"{v} at {c}" for v, c in where],
            frame=range(len(where)),
            split=["gallery"] * len(where),
        )
        self.vehicles = random.normal(size=(VEHICLES, DIMENSIONS))[self.vehicle]
        self.cameras = random.normal(size=(cameras, DIMENSIONS))[self.camera]
        self.chance = random.normal(size=(2, len(where), DIMENSIONS))

    def model(self, camera: float = 0.6, chance: float = 0.7, view: int = 0) -> FeatureSet:
        """Features with these weights of camera and noise next to weight 1 of the vehicle."""
        features_ND = self.vehicles + camera * self.cameras + chance * self.chance[view]
        return FeatureSet(unit_rows(features_ND.astype(np.float32)), self.records)

    def pseudo(self, labels: NDArray[np.integer] | None = None) -> PseudoLabels:
        """Pseudo labels: the vehicles, unless others are given."""
        return labelled(self.records, self.vehicle if labels is None else labels)


def labelled(records: Records, labels: NDArray[np.integer]) -> PseudoLabels:
    return PseudoLabels(labels.astype(np.int32), 0.5, 4, 20, (), records, np.zeros((0, 0), np.float32))


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_a_better_model_is_accepted(world: World) -> None:
    decision = gate_adaptation(world.model(), world.model(camera=0.2, chance=0.5), world.pseudo())
    assert decision.decision == ACCEPT and decision.accepted
    assert decision.reason.startswith("Retrieval is better: an image retrieves its cluster")
    assert decision.changes["same cluster"].low > 0 and decision.changes["other cameras"].change > 0
    assert decision.facts["tracklets"] == VEHICLES * CAMERAS and decision.facts["clusters"] == VEHICLES
    assert "two views" not in decision.changes


@pytest.mark.parametrize("camera, chance", [(1.2, 0.7), (0.6, 1.3)], ids=["camera gap", "noise"])
def test_a_worse_model_is_rejected(world: World, camera: float, chance: float) -> None:
    decision = gate_adaptation(world.model(), world.model(camera, chance), world.pseudo())
    assert decision.decision == REJECT and decision.reason.startswith("Retrieval is worse")


def test_the_same_model_is_not_enough(world: World) -> None:
    decision = gate_adaptation(world.model(), world.model(), world.pseudo())
    assert decision.decision == UNKNOWN and "not significant" in decision.reason and not decision.accepted
    assert {change.change for change in decision.changes.values()} == {0}


def test_a_cross_camera_gain_that_confuses_vehicles_is_not_accepted(world: World) -> None:
    """Similar vehicles collapse: the camera gap vanishes, but vehicles within a camera are confused."""
    kinds = FeatureSet(
        unit_rows((0.15 * world.model(camera=0).features + world.vehicles[world.vehicle // 4 * 4]).astype(np.float32)),
        world.records,
    )
    assert gate_adaptation(world.model(), kinds, world.pseudo()).decision == REJECT


def test_a_collapse_is_rejected(world: World) -> None:
    line = np.zeros((len(world.records), DIMENSIONS), dtype=np.float32)
    line[:, :2] = world.model().features[:, :2]
    decision = gate_adaptation(world.model(), FeatureSet(line, world.records), world.pseudo())
    assert decision.decision == REJECT and "collapsed" in decision.reason


def test_shuffled_pseudo_labels_are_not_accepted(world: World) -> None:
    shuffled = np.random.default_rng(1).permutation(world.vehicle)
    decision = gate_adaptation(world.model(), world.model(camera=0.1, chance=0.4), world.pseudo(shuffled))
    assert decision.decision == UNKNOWN and "do not agree with the features" in decision.reason


def test_tracklets_of_random_images_are_unreliable(world: World) -> None:
    order = np.random.default_rng(2).permutation(len(world.records))
    before = replace(world.model(), features=world.model().features[order])
    tracklet = world.records.tracklet.codes
    means = np.stack([before.features[tracklet == code].mean(axis=0) for code in range(72)])[tracklet]
    after = replace(before, features=unit_rows(0.5 * before.features + 0.5 * means))
    decision = gate_adaptation(before, after, labelled(world.records, reference_labels(before.features, world.records)))
    assert decision.decision == UNKNOWN and "is unreliable" in decision.reason


def test_tracklets_of_several_cameras_are_unreliable(world: World) -> None:
    records = world.records.with_(camera=np.random.default_rng(3).permutation(world.records.camera.values))
    before, after = (replace(model, records=records) for model in (world.model(), world.model(0.2, 0.5)))
    decision = gate_adaptation(before, after, labelled(records, world.vehicle))
    assert decision.decision == UNKNOWN and "check the columns tracklet and camera" in decision.reason
    assert decision.facts["mixed"] == pytest.approx(1, abs=0.2)


def test_held_out_tracklets_are_those_of_no_cluster(world: World) -> None:
    held_out = np.where(world.vehicle < 5, -1, world.vehicle - 5)
    partly = np.where(np.arange(len(world.records)) == 0, 0, held_out)  # one image of a tracklet was used in training
    before, after = world.model(), world.model(0.2, 0.5)
    decision = gate_adaptation(before, after, world.pseudo(partly))
    change, everyone = decision.changes["held-out tracklets"], decision.changes["own camera"]
    assert change.tracklets == 5 * CAMERAS - 1 and everyone.tracklets == VEHICLES * CAMERAS
    assert "held-out tracklets" not in gate_adaptation(before, after, world.pseudo()).changes


def test_harm_to_held_out_tracklets_alone_is_rejected(world: World) -> None:
    """Training tracklets improve and held-out ones get worse: the mean hides it, the held-out number does not."""
    held_out = world.vehicle < 8
    labels = np.where(held_out, -1, world.vehicle - 8)
    better, worse = world.model(0.2, 0.5), world.model(0.6, 0.85)
    after = replace(better, features=np.where(held_out[:, None], worse.features, better.features))
    decision = gate_adaptation(world.model(), after, world.pseudo(labels))
    assert decision.decision == REJECT and "half a held-out tracklet" in decision.reason
    few = gate_adaptation(world.model(), after, world.pseudo(labels), limits=Limits(tracklets=8 * CAMERAS + 1))
    assert few.decision == UNKNOWN and few.changes["held-out tracklets"].high < 0


def test_evidence_lines(world: World) -> None:
    lines = gate_adaptation(world.model(), world.model(0.2, 0.5), world.pseudo()).evidence_lines
    assert [line.split(":")[0] for line in lines] == [
        "same cluster",
        "own camera",
        "round trip",
        "other cameras",
        "agreement of two pseudo-label sets",
    ]
    assert "%, before" in lines[0] and lines[-1].endswith("% of the cross-camera pairs of images.")


@pytest.mark.parametrize("number", [-1, 0])
def test_fewer_than_two_clusters_are_rejected(world: World, number: int) -> None:
    pseudo = world.pseudo(np.full(len(world.records), number))
    decision = gate_adaptation(world.model(), world.model(), pseudo)
    assert decision.decision == REJECT and "fewer than two clusters" in decision.reason
    assert json.loads(json.dumps(decision.evidence, allow_nan=False))["clusters"] == number + 1


def test_one_camera_is_not_enough() -> None:
    world = World(cameras=1)
    decision = gate_adaptation(world.model(), world.model(chance=0.3), world.pseudo())
    assert decision.decision == UNKNOWN and "only one camera" in decision.reason
    json.dumps(decision.evidence, allow_nan=False)


@pytest.mark.parametrize("known", [0, 19])
def test_few_tracklets_are_not_enough(world: World, known: int) -> None:
    names = world.records.tracklet.values.copy()
    names[known * IMAGES :] = ""
    records = world.records.with_(tracklet=names)
    before, after = (replace(model, records=records) for model in (world.model(), world.model(0.2, 0.5)))
    decision = gate_adaptation(before, after, labelled(records, world.vehicle))
    assert decision.decision == UNKNOWN and f"There are {known} tracklets" in decision.reason


def test_limits_decide(world: World) -> None:
    before, after, pseudo = world.model(), world.model(0.2, 0.5), world.pseudo()
    assert gate_adaptation(before, after, pseudo, limits=Limits(tracklets=72)).decision == ACCEPT
    assert gate_adaptation(before, after, pseudo, limits=Limits(tracklets=73)).decision == UNKNOWN
    assert gate_adaptation(before, after, pseudo, limits=Limits(gain=0.9)).decision == UNKNOWN
    assert gate_adaptation(before, after, pseudo, limits=Limits(agreement=1.1)).decision == UNKNOWN
    assert gate_adaptation(after, before, pseudo, limits=Limits(loss=1)).decision == UNKNOWN


def test_without_cameras_nothing_is_accepted(world: World) -> None:
    records = world.records.with_(camera=[""] * len(world.records))
    before, after = (replace(model, records=records) for model in (world.model(), world.model(0.2, 0.5)))
    decision = gate_adaptation(before, after, labelled(records, world.vehicle))
    assert decision.decision == UNKNOWN
    assert (reference_labels(before.features, records) == -1).all()


def test_both_views_are_searched_and_agree(world: World) -> None:
    before, after = world.model(), world.model(0.2, 0.5)
    flipped = world.model(view=1), world.model(0.2, 0.5, view=1)
    decision = gate_adaptation(before, after, world.pseudo(), flipped=flipped)
    assert decision.decision == ACCEPT and decision.changes["two views"].before > 0.5
    alone = gate_adaptation(before, after, world.pseudo())
    assert (
        decision.changes["own camera"].before > alone.changes["own camera"].before
    )  # two views are more accurate than one


def lone(world: World, model: FeatureSet) -> FeatureSet:
    """One image per vehicle and camera, without tracklets."""
    return replace(model[::IMAGES], records=world.records[::IMAGES].with_(tracklet=[""] * (len(model) // IMAGES)))


def decide_by_images(
    world: World, after: tuple[float, float], labels: NDArray[np.integer] | None = None
) -> GateDecision:
    before = [lone(world, world.model(0.6, 0.7, view=view)) for view in (0, 1)]
    now = [lone(world, world.model(*after, view=view)) for view in (0, 1)]
    labels = world.vehicle[::IMAGES] if labels is None else labels
    return gate_adaptation(before[0], now[0], labelled(before[0].records, labels), flipped=(before[1], now[1]))


def test_without_tracklets_two_views_of_an_image_are_used(world: World) -> None:
    decision = decide_by_images(world, (0.2, 0.5))
    assert decision.decision == ACCEPT and decision.reason.endswith("two views of each image were used instead.")
    assert decision.facts["tracklets"] == 0 and decision.facts["images"] == VEHICLES * CAMERAS
    assert "own camera" not in decision.changes and decision.changes["two views"].tracklets == VEHICLES * CAMERAS
    assert decide_by_images(world, (1.2, 0.7)).decision == REJECT
    assert decide_by_images(world, (0.6, 0.7)).decision == UNKNOWN
    shuffled = decide_by_images(world, (0.2, 0.5), np.random.default_rng(1).permutation(world.vehicle[::IMAGES]))
    assert shuffled.decision == UNKNOWN and "do not agree with the features" in shuffled.reason


def test_bursts_without_tracklets_are_not_enough(world: World) -> None:
    """Several images per tracklet, which is unknown: counting each as a tracklet would be wrong."""
    records = world.records.with_(tracklet=[""] * len(world.records))
    models = [replace(world.model(1.5, chance, view=view), records=records) for chance in (0.3, 0.2) for view in (0, 1)]
    decision = gate_adaptation(models[0], models[2], labelled(records, world.vehicle), flipped=(models[1], models[3]))
    assert decision.decision == UNKNOWN and "There are 0 tracklets" in decision.reason


@settings(max_examples=2)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_scale_and_order_of_the_images_change_nothing(world: World, scale: float, seed: int) -> None:
    before, after = world.model(), world.model(0.4, 0.6)
    expected = gate_adaptation(before, after, world.pseudo())
    order = np.random.default_rng(seed).permutation(len(world.records))
    scaled = [replace(model, features=np.float32(scale) * model.features)[order] for model in (before, after)]
    found = gate_adaptation(*scaled, labelled(world.records[order], world.vehicle[order]))
    assert found.decision == expected.decision
    for name, change in expected.changes.items():
        assert found.changes[name].after == pytest.approx(change.after, abs=1e-6), name
        assert found.changes[name].low == pytest.approx(change.low, abs=1e-6), name


def test_the_seed_changes_only_the_interval(world: World) -> None:
    before, after = world.model(), world.model(0.4, 0.6)
    one, again, other = (gate_adaptation(before, after, world.pseudo(), seed=seed) for seed in (1, 1, 2))
    assert one.evidence == again.evidence
    assert one.changes["own camera"].after == other.changes["own camera"].after
    assert one.changes["own camera"].low != other.changes["own camera"].low


def test_features_of_other_images_are_rejected(world: World) -> None:
    with pytest.raises(InputError, match="the adapted model: row 1 is"):
        gate_adaptation(world.model(), world.model()[::-1], world.pseudo())
    with pytest.raises(InputError, match="the pseudo labels: holds"):
        gate_adaptation(world.model(), world.model(), labelled(world.records[:5], world.vehicle[:5]))

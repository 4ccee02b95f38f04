"""Evidence of the gate: every statistic against hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vreid.adaptation.evidence import NEIGHBOURS, Change, UnlabelledSet, dimensions
from vreid.data.records import Records
from vreid.retrieval.evaluation.plain_arrays import evaluate_features


def directions(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in the plane: the nearer two angles, the nearer the features."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1).astype(np.float32)


def images(tracklet: str, camera: str, frames: list[int] | None = None) -> Records:
    """One image per letter; "." is no tracklet."""
    known = [["" if letter == "." else letter for letter in column] for column in (tracklet, camera)]
    return Records.of(path=[f"{i}.jpg" for i in range(len(tracklet))], tracklet=known[0], camera=known[1], frame=frames)


def random_world(seed: int = 0, vehicles: int = 5, cameras: int = 3) -> tuple[Records, NDArray[np.float32]]:
    """Three images of each vehicle at each camera, one tracklet each, with weakly informative features."""
    random = np.random.default_rng(seed)
    where = [(v, c) for v in range(vehicles) for c in range(cameras) for _ in range(3)]
    records = Records.of(
        path=[f"{i}.jpg" for i in range(len(where))],
        identity=[f"{v}" for v, _ in where],
        camera=[f"c{c}" for _, c in where],
        tracklet=[f"{v} at {c}" for v, c in where],
        frame=random.permutation(len(where)),
    )
    vehicle, camera = random.normal(size=(vehicles, 8)), random.normal(size=(cameras, 8))
    raw = np.array([vehicle[v] + camera[c] for v, c in where]) + 0.7 * random.normal(size=(len(where), 8))
    return records, (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_change_is_the_mean_over_tracklets_that_both_have() -> None:
    change = Change.of(np.array([0.0, 0.5, np.nan, 1.0]), np.array([0.5, 0.5, 1.0, np.nan]))
    assert change == Change(before=0.25, after=0.5, low=0, high=0.5, tracklets=2)
    assert Change.of(np.array([0.5, np.nan]), np.array([0.5, 0.5])) is None


def test_the_interval_of_a_change_is_paired() -> None:
    random = np.random.default_rng(0)
    before = 5 * random.normal(size=400)
    change = Change.of(before, before + random.normal(0.1, 0.2, size=400))
    assert change is not None
    assert change.high - change.low == pytest.approx(2 * 1.96 * 0.2 / 20, rel=0.15)


def test_own_camera_by_hand() -> None:
    # in camera 1: a at 0 | 10 40 (halves by frame), b at 30 | 60; c is in another camera and does not matter
    target = UnlabelledSet(images("aaabbcc", "1111122", [5, 7, 6, 1, 2, 1, 2]))
    values = target.own_camera(directions(0, 10, 40, 30, 60, 11, 12))
    a = np.mean([(1 / 1 + 2 / 3) / 2, 1 / 1, 1 / 3])  # 0 finds 10, b, 40; 10 finds 0 first; 40 finds b, b, 0
    b = np.mean([1 / 4, 1 / 2])  # 30 finds 40, 10, 0 (or 0, 10) before 60; 60 finds 40 before 30
    assert values == pytest.approx([a, b, 1])


def test_images_without_a_tracklet_are_negatives_and_those_without_a_camera_are_excluded() -> None:
    target = UnlabelledSet(images("aa.bb", "111.."))
    values = target.own_camera(directions(0, 20, 5, 1, 2))
    assert values == pytest.approx([1 / 2, np.nan], nan_ok=True)
    assert target.tracklets == 2 and target.cameras == 1 and target.mixed == 0
    assert UnlabelledSet(images("aabbccd", "1122132")).mixed == pytest.approx(1 / 3)


def test_halves_follow_frame_then_time_then_name() -> None:
    assert UnlabelledSet(images("aaa", "111", [3, 1, 2])).later.tolist() == [True, False, True]
    timed = images("aaaa", "1111").with_(time=[4.0, 3.0, 2.0, 1.0])
    assert UnlabelledSet(timed).later.tolist() == [True, True, False, False]
    assert UnlabelledSet(images("abab", "1111")).later.tolist() == [False, False, True, True]


def test_same_cluster_is_the_mean_precision_across_cameras() -> None:
    records, features_ND = random_world()
    labels = np.where(np.arange(len(records)) % 7 == 0, -1, records.identity.codes)
    rows = labels >= 0
    metrics = evaluate_features(
        features_ND[rows],
        features_ND,
        query_identity=labels[rows],
        gallery_identity=labels,
        query_camera=records.camera.codes[rows],
        gallery_camera=records.camera.codes,
    )
    tracklet = records.tracklet.codes[rows]
    expected = [metrics.average_precision[tracklet == code].mean() for code in range(15)]
    assert UnlabelledSet(records).same_cluster(features_ND, labels) == pytest.approx(expected)
    assert np.isnan(UnlabelledSet(records).same_cluster(features_ND, np.full(len(records), -1))).all()


def test_two_views_by_hand() -> None:
    target = UnlabelledSet(images("aabb.c", "111112"))
    originals, mirrored = directions(0, 10, 20, 90, 12, 14), directions(14, 10, 21, 40, 12, 14)
    # 14 (of 0) finds 12, 20, 0; 10 itself; 21 itself; 40 (of 90) finds 12, 10, 0, 90; 14 is of camera 2
    assert target.two_views(originals, mirrored) == pytest.approx(
        [(1 / 3 + 1) / 2, (1 + 1 / 4) / 2, np.nan], nan_ok=True
    )


def test_round_trip_by_hand() -> None:
    # camera 1: a, b; camera 2: c. Both a and b lead to c, and c is nearer to a
    target = UnlabelledSet(images("aabbcc", "111122"))
    values = target.round_trip(directions(0, 2, 30, 34, 10, 14))
    assert values == pytest.approx([1, 1 / 2, 1])


def test_round_trip_of_random_features_matches_its_definition() -> None:
    records, features_ND = random_world()
    target = UnlabelledSet(records)
    tracklet, camera = records.tracklet.codes, records.camera.codes
    codes = range(tracklet.max() + 1)

    def mean(code: int, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        total = features_ND[(tracklet == code) & rows].astype(np.float64).sum(axis=0)
        return np.asarray(total / np.linalg.norm(total))

    everything = np.ones(len(records), dtype=bool)
    place = [camera[tracklet == code][0] for code in codes]
    expected = []
    for code in codes:
        found = []
        for there, back in ((~target.later, target.later), (target.later, ~target.later)):
            for other in set(place) - {place[code]}:
                candidates = [c for c in codes if place[c] == other]
                led = max(candidates, key=lambda c: mean(code, there) @ mean(c, everything))
                own = [mean(led, everything) @ mean(c, back) for c in codes if place[c] == place[code]]
                mine = mean(led, everything) @ mean(code, back)
                found.append(1 / sum(value >= mine for value in own))
        expected.append(np.mean(found))
    assert target.round_trip(features_ND) == pytest.approx(expected)


def test_collapsed_features_have_a_low_round_trip() -> None:
    records, features_ND = random_world()
    assert (UnlabelledSet(records).round_trip(np.ones_like(features_ND)) == 1 / 5).all()


def test_other_cameras_by_hand() -> None:
    records, _ = random_world(vehicles=6, cameras=2)  # twelve tracklets, each one of eleven others
    of_camera = 90 * records.camera.codes + records.tracklet.codes
    values = UnlabelledSet(records).other_cameras(directions(*of_camera))
    assert values == pytest.approx([(NEIGHBOURS - 5) / NEIGHBOURS] * 12)
    few, features_ND = random_world(vehicles=2)
    assert np.isnan(UnlabelledSet(few).other_cameras(features_ND)).all()


def test_one_camera_has_no_round_trip() -> None:
    records, features_ND = random_world(cameras=1)
    assert np.isnan(UnlabelledSet(records).round_trip(features_ND)).all()
    assert np.isfinite(UnlabelledSet(records).own_camera(features_ND)).all()


def test_without_tracklets_all_measurements_are_missing() -> None:
    records, features_ND = random_world()
    target = UnlabelledSet(records.with_(tracklet=[""] * len(records)))
    assert target.tracklets == 0
    for values in (
        target.own_camera(features_ND),
        target.round_trip(features_ND),
        target.other_cameras(features_ND),
        target.two_views(features_ND, features_ND),
    ):
        assert not np.isfinite(values).any()


def test_many_tracklets_are_sampled_as_queries_but_all_stay_in_the_gallery() -> None:
    records, features_ND = random_world(vehicles=12)
    some, everyone = UnlabelledSet(records, most=9, seed=3), UnlabelledSet(records)
    values, all_values = some.own_camera(features_ND), everyone.own_camera(features_ND)
    assert some.tracklets == np.isfinite(values).sum() == 9
    assert values[np.isfinite(values)] == pytest.approx(all_values[np.isfinite(values)])
    trips, all_trips = some.round_trip(features_ND), everyone.round_trip(features_ND)
    assert trips[np.isfinite(trips)] == pytest.approx(all_trips[np.isfinite(trips)])


def test_effective_dimension() -> None:
    cross = np.vstack([np.eye(3), -np.eye(3)]).astype(np.float32)
    assert dimensions(cross) == pytest.approx(3)
    assert dimensions(directions(0, 180)) == pytest.approx(1)
    assert dimensions(np.ones((4, 3), dtype=np.float32)) == 0

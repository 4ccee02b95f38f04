"""IDF1, HOTA and CLEAR of boxes: a slow oracle, and py-motmetrics and TrackEval where they are installed."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import tracking
from vreid.errors import InputError
from vreid.trips.tracking_metrics import (
    TrackBoxes,
    TrackingMetrics,
    assign_identities,
    evaluate_boxes,
    several_cameras,
)


def city(seed: int, *, vehicles: int = 12, cameras: int = 3, crowded: bool = False) -> tuple[TrackBoxes, TrackBoxes]:
    """Vehicles that cross the views of cameras; a result with jitter, misses, false boxes and wrong identities."""
    rng = np.random.default_rng(seed)
    true, found = [], []
    gap = 15.0 if crowded else 60.0
    for vehicle in range(vehicles):
        for camera in rng.permutation(cameras)[: rng.integers(1, cameras + 1)].tolist():
            begin, track = int(rng.integers(1, 8)), int(rng.integers(vehicles)) if rng.random() < 0.3 else vehicle
            for step in range(int(rng.integers(3, 9))):
                x, y = 12.0 * step + rng.normal(0, 1), gap * (vehicle % 4) + 300 * (vehicle // 4)
                corners = np.array([x, y, x + 40, y + 30])
                true.append((f"c{camera:03d}", begin + step, vehicle, corners))
                if rng.random() < 0.1:
                    track = int(rng.integers(100, 110))
                if rng.random() < 0.85:
                    found.append((f"c{camera:03d}", begin + step, track, corners + rng.normal(0, 3, 4)))
                if rng.random() < 0.1:
                    found.append((f"c{camera:03d}", begin + step, int(rng.integers(200, 210)), corners + 500))
    unique = {(camera, frame, identity): corners for camera, frame, identity, corners in found}
    rows = [(*key, corners) for key, corners in unique.items()]
    return boxes(true), boxes([rows[i] for i in rng.permutation(len(rows))])


def boxes(rows: list[tuple[str, int, int, np.ndarray]]) -> TrackBoxes:
    cameras, frames, identities, corners = (list(column) for column in zip(*rows, strict=True))
    return TrackBoxes.of(camera=cameras, frame=frames, identity=identities, corners=corners)


def plain(of: TrackBoxes) -> list[tracking.Box]:
    return [
        (str(camera), int(frame), str(identity), tuple(corners))
        for camera, frame, identity, corners in zip(of.camera, of.frame, of.identity, of.corners.tolist(), strict=True)
    ]


def small(seed: int) -> tuple[TrackBoxes, TrackBoxes]:
    return city(seed, vehicles=4, cameras=2, crowded=True)


@pytest.mark.parametrize("seed", range(12))
def test_the_metrics_are_those_of_the_slow_oracle(seed: int) -> None:
    truth, found = small(seed)
    found = found[np.array([int(name) < 100 for name in found.identity])]  # every assignment is tried: few identities
    got = evaluate_boxes(truth, found, cityflow=False)
    a, b = plain(truth), plain(found)
    idtp = tracking.idtp(a, b)
    assert (got.idtp, got.idfn, got.idfp) == (idtp, len(a) - idtp, len(b) - idtp)
    assert got.idf1 == pytest.approx(2 * idtp / (len(a) + len(b)))
    assert (got.hota, got.deta, got.assa, got.loca) == pytest.approx(tracking.hota(a, b))
    matches, overlap, switches = tracking.clear(a, b)
    assert (got.matches, got.switches) == (matches, switches)
    assert got.motp == pytest.approx(overlap / matches)
    assert got.mota == pytest.approx(1 - (len(a) + len(b) - 2 * matches + switches) / len(a))


def test_a_perfect_result_and_an_empty_one() -> None:
    truth, _ = city(0)
    renamed = TrackBoxes.of(
        camera=truth.camera, frame=truth.frame, identity=[f"x{name}" for name in truth.identity], corners=truth.corners
    )
    perfect = evaluate_boxes(truth, renamed, cityflow=False)
    assert (perfect.idf1, perfect.hota, perfect.mota, perfect.motp, perfect.switches) == (1, 1, 1, 1, 0)
    nothing = evaluate_boxes(truth, truth[np.zeros(len(truth), dtype=bool)], cityflow=False)
    assert (nothing.idf1, nothing.hota, nothing.mota, nothing.idfn) == (0, 0, 0, len(truth))


def test_cityflows_rule_leaves_out_vehicles_of_one_camera() -> None:
    assert several_cameras(["a", "a", "b", "b"], ["c1", "c1", "c1", "c2"]).tolist() == [False, False, True, True]
    truth, found = city(4)
    of_two = evaluate_boxes(truth, found)
    assert of_two == evaluate_boxes(truth.at_several_cameras(), found.at_several_cameras(), cityflow=False)
    assert of_two != evaluate_boxes(truth, found, cityflow=False)
    alone = truth[truth.camera == "c001"]
    with pytest.raises(InputError, match="no vehicle at two cameras or more"):
        evaluate_boxes(alone, found)


def test_wrong_boxes_are_reported() -> None:
    with pytest.raises(InputError, match=r"box 2 has the corners \[3.0, 0.0, 2.0, 1.0\]"):
        TrackBoxes.of(camera=["a", "a"], frame=[1, 1], identity=[1, 2], corners=[[0, 0, 1, 1], [3, 0, 2, 1]])
    with pytest.raises(InputError, match="columns have"):
        TrackBoxes.of(camera=["a"], frame=[1, 1], identity=[1, 2], corners=[[0, 0, 1, 1], [1, 0, 2, 1]])
    twice = TrackBoxes.of(camera=["a", "a"], frame=[1, 1], identity=[7, 7], corners=[[0, 0, 1, 1], [1, 0, 2, 1]])
    with pytest.raises(InputError, match="result: identity 7 has two boxes on frame 1 of camera a"):
        evaluate_boxes(twice[:1], twice, cityflow=False)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5)), max_size=12))
def test_the_assignment_shares_most(pairs: list[tuple[int, int, int]]) -> None:
    table = {(a, b): float(shared) for a, b, shared in pairs}
    true, found = (np.array([key[side] for key in table], dtype=np.int64) for side in (0, 1))
    assigned = assign_identities(true, found, np.array(list(table.values())), 4)
    chosen = [(i, int(j)) for i, j in enumerate(assigned) if j >= 0]
    assert len({j for _, j in chosen}) == len(chosen)
    scores = [[table.get((i, j), 0.0) for j in range(4)] for i in range(4)]
    assert sum(table[pair] for pair in chosen) == sum(scores[i][j] for i, j in tracking.best(scores))


def one_after_the_other(truth: TrackBoxes, found: TrackBoxes) -> list[tuple[str, int]]:
    """Cameras and frames in the order in which the other packages get them: camera after camera."""
    return sorted(
        {*zip(truth.camera, truth.frame.tolist(), strict=True), *zip(found.camera, found.frame.tolist(), strict=True)}
    )


@pytest.fixture
def older_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that both packages use and numpy no longer has."""
    monkeypatch.setattr(np, "float", float, raising=False)
    monkeypatch.setattr(np, "int", int, raising=False)
    monkeypatch.setattr(np, "bool", bool, raising=False)
    monkeypatch.setattr(np, "asfarray", lambda values: np.asarray(values, dtype=float), raising=False)


@pytest.mark.usefixtures("older_numpy")
@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("cityflow", [False, True])
def test_trackeval_gives_the_same_numbers(crowded: bool, cityflow: bool) -> None:
    metrics = pytest.importorskip("trackeval.metrics", reason="TrackEval is not installed")
    from vreid.trips.tracking_metrics import overlaps

    for seed in range(8):
        truth, found = city(seed, crowded=crowded)
        got = evaluate_boxes(truth, found, cityflow=cityflow)
        if cityflow:
            truth, found = truth.at_several_cameras(), found.at_several_cameras()
        names = [np.unique(of.identity.astype(str), return_inverse=True) for of in (truth, found)]
        data = {
            "num_gt_ids": len(names[0][0]),
            "num_tracker_ids": len(names[1][0]),
            "num_gt_dets": len(truth),
            "num_tracker_dets": len(found),
            "gt_ids": [],
            "tracker_ids": [],
            "similarity_scores": [],
        }
        for camera, frame in one_after_the_other(truth, found):
            rows = [np.flatnonzero((of.camera == camera) & (of.frame == frame)) for of in (truth, found)]
            rows = [at[np.argsort(ids[at])] for at, (_, ids) in zip(rows, names, strict=True)]
            data["gt_ids"].append(names[0][1][rows[0]])
            data["tracker_ids"].append(names[1][1][rows[1]])
            data["similarity_scores"].append(overlaps(truth.corners[rows[0]], found.corners[rows[1]]))
        data["num_timesteps"] = len(data["gt_ids"])
        hota = metrics.HOTA().eval_sequence(data)
        clear = metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
        identity = metrics.Identity({"PRINT_CONFIG": False}).eval_sequence(data)
        wanted = {
            **{name: float(np.mean(hota[key])) for name, key in (("hota", "HOTA"), ("deta", "DetA"), ("assa", "AssA"))},
            "loca": float(np.mean(hota["LocA"])),
            **{name: float(identity[name.upper()]) for name in ("idf1", "idp", "idr", "idtp", "idfp", "idfn")},
            "mota": float(clear["MOTA"]),
            "motp": float(clear["MOTP"]),
            "switches": float(clear["IDSW"]),
            "matches": float(clear["CLR_TP"]),
            "false_positives": float(clear["CLR_FP"]),
            "misses": float(clear["CLR_FN"]),
        }
        assert asdict(got) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.usefixtures("older_numpy")
@pytest.mark.parametrize("cityflow", [False, True])
def test_motmetrics_gives_the_same_numbers(cityflow: bool) -> None:
    """CLEAR too where no two vehicles compete for a box: motmetrics keeps pairs of any earlier frame together."""
    motmetrics = pytest.importorskip("motmetrics", reason="py-motmetrics is not installed")
    for seed in range(6):
        truth, found = city(seed)
        got: TrackingMetrics = evaluate_boxes(truth, found, cityflow=cityflow)
        if cityflow:
            truth, found = truth.at_several_cameras(), found.at_several_cameras()
        accumulator = motmetrics.MOTAccumulator(auto_id=True)
        for camera, frame in one_after_the_other(truth, found):
            a, b = (of[(of.camera == camera) & (of.frame == frame)] for of in (truth, found))
            sides = [np.column_stack([of.corners[:, :2], of.corners[:, 2:] - of.corners[:, :2]]) for of in (a, b)]
            distances = motmetrics.distances.iou_matrix(*sides, max_iou=0.5)
            accumulator.update(a.identity.astype(str), b.identity.astype(str), distances)
        names = ["idf1", "idp", "idr", "idtp", "idfp", "idfn", "mota", "motp", "num_switches"]
        row = motmetrics.metrics.create().compute(accumulator, metrics=names, return_dataframe=False)
        assert [got.idf1, got.idp, got.idr] == pytest.approx([row["idf1"], row["idp"], row["idr"]])
        assert [got.idtp, got.idfp, got.idfn] == [row["idtp"], row["idfp"], row["idfn"]]
        assert [got.mota, 1 - got.motp] == pytest.approx([row["mota"], row["motp"]])
        assert got.switches == row["num_switches"]

"""Ranked lists: what a row says of query and result, and one list for each query tracklet."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import AI_CITY, CAMERA_LESS, CROSS_CAMERA, MARKET, Distances, FeatureSet, PostProcessing, rank
from vreid.retrieval.ranking import Ranking


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# six queries of two tracklets and two single images, out of order; distances by hand
TRACKLETS = ["s", "t", "", "t", "s", ""]
VALUES = [[3, 1, 5, 4], [1, 2, 3, 4], [4, 3, 2, 1], [3, 0, 3, 0], [1, 5, 0, 4], [2, 1, 4, 3]]


def distances(values=VALUES, **columns):
    given = {"camera": ["c1"] * len(values), "tracklet": TRACKLETS[: len(values)], **columns}
    query = Records.of(path=[f"q{row}.jpg" for row in range(len(values))], **given)
    gallery = Records.of(path=list("abcd"), camera=["c2", "c2", "c3", "c1"], identity=["v1", "v2", "v1", "v1"])
    return Distances.from_matrix(values, query, gallery)


def test_one_list_for_each_query_tracklet_by_hand():
    ranking = rank(distances(), CAMERA_LESS, 3, per_tracklet=True)
    assert ranking.query.path.tolist() == ["q0.jpg", "q1.jpg", "q2.jpg", "q5.jpg"]
    # s: (3 1 5 4 + 1 5 0 4) / 2 = 2 3 2.5 4; t: 2 1 3 2
    assert ranking.indices.tolist() == [[0, 2, 1], [1, 0, 3], [3, 2, 1], [1, 0, 3]]
    assert ranking.distances.tolist() == [[2, 2.5, 3], [1, 2, 2], [1, 2, 3], [1, 2, 3]]
    assert ranking.steps == ("query tracklets by mean distance",)
    assert rank(distances(), CAMERA_LESS, 3).steps == ()


def test_what_is_removed_for_one_image_is_removed_for_its_tracklet():
    ranking = rank(distances(), CROSS_CAMERA, per_tracklet=True)
    assert ranking.lengths.tolist() == [3] * 4 and 3 not in ranking.indices
    masked = np.array(VALUES, dtype=float)
    masked[4, 1] = np.inf
    assert rank(distances(masked), CAMERA_LESS, per_tracklet=True).indices[0].tolist() == [0, 2, 3, -1]
    own = distances(identity=["v1", "v2", "v1", "v2", "v1", "v2"])
    assert rank(own, AI_CITY, per_tracklet=True).lengths.tolist() == [3, 4, 3, 4]


@pytest.mark.parametrize("seed", range(3))
def test_plain_search_ranks_a_tracklet_as_its_mean_feature(seed):
    generator = np.random.default_rng(seed)
    tracklet = generator.permutation(["a"] * 5 + ["b"] * 3 + ["c"])
    query = Records.of(path=[f"q{row}" for row in range(9)], tracklet=tracklet.tolist())
    gallery = Records.of(path=[f"g{row}" for row in range(40)])
    values, searched = (np.float32(generator.normal(size=(len(side), 8))) for side in (query, gallery))
    found = rank(Distances.of(FeatureSet(values, query), FeatureSet(searched, gallery)), MARKET, per_tracklet=True)
    for name, listed in zip(found.query.tracklet.values, found.indices, strict=True):
        mean = values[tracklet == name].mean(axis=0, dtype=np.float64)
        assert listed.tolist() == np.argsort(((searched - mean) ** 2).sum(axis=1)).tolist()


def test_tracklets_that_are_missing_or_mixed_are_an_error():
    with pytest.raises(InputError, match="no query image has a tracklet; give the column `tracklet`"):
        rank(distances(tracklet=[""] * 6), CAMERA_LESS, per_tracklet=True)
    with pytest.raises(InputError, match="tracklet s has images of more than one camera"):
        rank(distances(camera=["c1", "c1", "c1", "c1", "c2", "c1"]), CAMERA_LESS, per_tracklet=True)


def test_rows_name_query_and_result(tmp_path):
    frame, nan = "videos/cam 1/000007.jpg", np.nan
    query = Records.of(
        path=[frame, frame],
        image_key=["cam1/7/0", "cam1/7/1"],
        camera=["cam1"] * 2,
        tracklet=["t1", "t2"],
        time=[1e9 + 0.25, nan],
        box=[[1.5, 2, 30, 40], [50, 2, 90, 40]],
    )
    gallery = Records.of(path=["g.jpg"], camera=["cam2"], tracklet=["u"], time=[1e9 + 60])
    rank(Distances.from_matrix([[1], [2]], query, gallery), CAMERA_LESS).save(tmp_path / "lists.csv")
    first, second = table(tmp_path / "lists.csv")
    box = {"x1": "", "y1": "", "x2": "", "y2": ""}
    result = {"image_key": "g", "path": "g.jpg", "tracklet": "u", "camera": "cam2", "time": "1000000060.0", **box}
    assert first == {
        "query": "cam1/7/0",
        "query_path": frame,
        "query_tracklet": "t1",
        "query_camera": "cam1",
        "query_time": "1000000000.25",
        "query_x1": "1.5",
        "query_y1": "2.0",
        "query_x2": "30.0",
        "query_y2": "40.0",
        "rank": "1",
        "distance": "1.000000",
        **{**result, "image_key": gallery.image_key[0]},
    }
    assert (second["query"], second["query_time"], second["query_x1"]) == ("cam1/7/1", "", "50.0")


def test_per_tracklet_from_the_command_line(run: Run, tmp_path: Path) -> None:
    """Boxes of two vehicles in shared frames: queries are told apart, and one list stands for each tracklet."""
    rows, features = ["path,identity,camera,tracklet,split,x1,y1,x2,y2"], []
    generator = np.random.default_rng(0)
    looks = generator.normal(size=(2, 6))
    for camera, split in (("c1", "query"), ("c2", "gallery")):
        for frame in range(3):
            for vehicle in range(2):
                box = f"{100 * vehicle},0,{100 * vehicle + 50},40"
                rows.append(f"{camera}/{frame}.jpg,v{vehicle},{camera},{camera}v{vehicle},{split},{box}")
                features.append(looks[vehicle] + 0.3 * generator.normal(size=6))
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    np.save(tmp_path / "features.npy", np.float32(features))
    line = f"rank {tmp_path}/features.npy --records {tmp_path}/boxes.csv"
    assert run(f"{line} --out {tmp_path}/images.csv").code == 0
    images = table(tmp_path / "images.csv")
    assert len({row["query"] for row in images}) == 6 and len({row["query_path"] for row in images}) == 3
    assert len({row["image_key"] for row in images}) == 6
    found = run(f"{line} --out {tmp_path}/tracklets.csv --per-tracklet --json")
    assert "query tracklets by mean distance" in json.loads(found.out)["ranking"]
    lists = table(tmp_path / "tracklets.csv")
    assert [row["query_tracklet"] for row in lists] == ["c1v0"] * 6 + ["c1v1"] * 6
    assert {row["tracklet"] for row in lists[:3]} == {"c2v0"} and {row["tracklet"] for row in lists[6:9]} == {"c2v1"}
    assert run(f"{line} --out {tmp_path}/t.safetensors --per-tracklet").code == 0
    stored = Ranking.load(tmp_path / "t.safetensors")
    assert len(stored) == 2 and stored.steps[-1] == "query tracklets by mean distance"
    wrong = run(f"{line} --out {tmp_path}/no.csv --per-tracklet --threshold {tmp_path}/boxes.csv")
    assert wrong.code == 2 and not (tmp_path / "no.csv").exists()


def test_a_threshold_of_single_images_is_not_applied_to_tracklets(run: Run, tmp_path: Path) -> None:
    rate = {"target": 0.1, "value": 0.1, "low": 0, "high": 0.2, "num_queries": 10, "num_identities": 10}
    facts = {"kind": "threshold", "match": 0.5, "no_match": 1, "false_match": rate, "miss": rate, "confidence": 0.95}
    facts |= {"features": "", "steps": [], "protocol": "market", "gallery_images": 6}
    (tmp_path / "threshold.json").write_text(json.dumps(facts))
    wrong = run(f"rank features.npy --out {tmp_path}/no.csv --per-tracklet --threshold {tmp_path}/threshold.json")
    assert wrong.code == 2 and "distances of single images; omit --per-tracklet" in wrong.err


def test_post_processing_goes_before_the_mean():
    query = Records.of(path=["p", "q"], tracklet=["t", "t"], camera=["c1", "c1"])
    gallery = Records.of(path=["a", "b"], camera=["c1", "c2"])
    sides = FeatureSet([[1, 0], [0, 1]], query), FeatureSet([[1, 1], [1, 0]], gallery)
    made = PostProcessing.parse("other-cameras").apply(*sides)
    assert rank(made, CAMERA_LESS, per_tracklet=True).indices.tolist() == [[1, -1]]
    assert rank(made, CAMERA_LESS, per_tracklet=True).steps == ("other-cameras", "query tracklets by mean distance")

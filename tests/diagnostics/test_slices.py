"""Slices against hand-worked cases and against the definition: evaluate only what the slice is about."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oracles import metrics as oracle
from vreid.data.records import Records
from vreid.diagnostics.slices import MATCH_BINS, QUERY_BINS, match_slices, slices
from vreid.errors import InputError
from vreid.retrieval import (
    AI_CITY,
    CAMERA_LESS,
    CROSS_CAMERA,
    MARKET,
    VEHICLE_ID,
    VERI_TRACKS,
    Distances,
    Metrics,
    evaluate_distances,
    evaluate_repeated,
    interval,
)


def records(name: str, identity: list[str], camera: list[str] | None = None, **columns) -> Records:
    return Records.of(path=[f"{name}{i}" for i in range(len(identity))], identity=identity, camera=camera, **columns)


def evaluated(query: Records) -> Metrics:
    """Query number i finds its only match at rank i + 1; rank-1 differs for the first, mAP for all."""
    count = len(query)
    own = [[0.5 if g == q else 0.9 for g in range(count)] for q in range(count)]
    negatives = [[0.1 if g < q else 0.9 for g in range(count)] for q in range(count)]
    matrix = np.concatenate([own, negatives], axis=1)
    gallery = records("g", [*query.identity.values, *["other"] * count])
    return evaluate_distances(Distances.from_matrix(matrix, query, gallery), CAMERA_LESS)


def counts(by: str, **columns) -> dict[str, list[int]]:
    """Ranks of the first hit in each slice, which name its queries: query i is found at rank i + 1."""
    query = records("q", [str(i) for i in range(len(next(iter(columns.values()))))], **columns)
    metrics = evaluated(query)
    assert metrics.first_hit.tolist() == list(range(1, len(query) + 1))
    return {name: m.first_hit.astype(int).tolist() for name, m in slices(metrics, query, by).items()}


def test_slices_by_labels_hold_each_query_once_and_the_unknown_last() -> None:
    assert counts("color", color=["red", "", "blue", "red"]) == {"blue": [3], "red": [1, 4], "unknown": [2]}
    assert counts("color", color=["unknown", "", "white"]) == {"white": [3], "unknown": [1, 2]}
    assert counts("type", vehicle_type=["van", "bus"]) == {"bus": [2], "van": [1]}
    assert counts("camera", camera=["c2", "c1"]) == {"c1": [2], "c2": [1]}


def test_slices_by_orientation_and_hour() -> None:
    assert counts("orientation", orientation=[0, 59.9, 60, 359.9, np.nan]) == {
        "0 to 60 degrees": [1, 2],
        "60 to 120 degrees": [3],
        "300 to 360 degrees": [4],
        "unknown": [5],
    }
    day = 86400.0
    assert counts("hour", time=[10 * day + 5 * 3600, 6 * 3600, day - 1, np.nan]) == {
        "00 to 06 h UTC": [1],
        "06 to 12 h UTC": [2],
        "18 to 24 h UTC": [3],
        "unknown": [4],
    }


def test_slices_by_size_take_the_box_or_the_image(tmp_path: Path) -> None:
    for name, size in (("a", (30, 20)), ("b", (10, 10)), ("c", (500, 500))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    box = [[np.nan] * 4, [np.nan] * 4, [5, 5, 25, 15]]  # 600, 100 and, of a large frame, 200 pixels
    query = Records.of(path=[tmp_path / f"{name}.png" for name in "abc"], identity=["0", "1", "2"], box=box)
    found = slices(evaluated(query), query, "size")
    assert {name.split()[0]: m.first_hit.tolist() for name, m in found.items()} == {
        "small": [2],
        "medium": [3],
        "large": [1],
    }
    four = records("q", ["0", "1", "2", "3"], box=[[0, 0, 10, height] for height in (40, 10, 20, 30)])
    # thirds lie at 200 and 300 pixels: what is just as large belongs to the smaller third
    assert [m.first_hit.tolist() for m in slices(evaluated(four), four, "size").values()] == [[2, 3], [4], [1]]
    (tmp_path / "c.png").unlink()
    (tmp_path / "a.png").write_bytes(b"no image")
    assert len(slices(evaluated(query[2]), query[2], "size")) == 1  # a box needs no image
    with pytest.raises(InputError, match=r"a\.png: is not an image"):
        slices(evaluated(query), query, "size")


def test_a_slice_without_an_evaluated_query_is_left_out() -> None:
    query = records("q", ["1", "2"], color=["red", "blue"])
    metrics = evaluate_distances(Distances.from_matrix([[0.1], [0.1]], query, records("g", ["1"])), CAMERA_LESS)
    assert list(slices(metrics, query, "color")) == ["red"]


def test_camera_pairs_by_hand() -> None:
    # Order of the gallery for the query in a: b-match, negative, c-match, b-match, c-match.
    # a -> b: without the c-matchs hit, miss, hit: AP (1 + 2/3) / 2; a -> c: miss, hit, hit: AP (1/2 + 2/3) / 2.
    query = records("q", ["7"], ["a"])
    gallery = records("g", ["7", "x", "7", "7", "7", "7"], ["b", "b", "c", "b", "c", "a"])
    distances = Distances.from_matrix([[0.1, 0.2, 0.3, 0.4, 0.5, 0.0]], query, gallery)
    pairs = match_slices(distances, MARKET, "camera-pair")
    assert list(pairs) == ["a -> b", "a -> c"]  # the pass in a is removed by the protocol
    assert pairs["a -> b"].mAP == pytest.approx((1 + 2 / 3) / 2)
    assert pairs["a -> c"].mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (pairs["a -> b"].rank1, pairs["a -> c"].rank1) == (1, 0)
    assert pairs["a -> c"].mINP == pytest.approx(2 / 3)
    assert "a -> a" in match_slices(distances, CAMERA_LESS, "camera-pair")


def test_a_cut_list_is_cut_after_the_other_mates_are_taken_out() -> None:
    query = records("q", ["7"], ["a"])
    gallery = records("g", ["7", "7"], ["b", "c"])
    distances = Distances.from_matrix([[0.1, 0.2]], query, gallery)
    pairs = match_slices(distances, replace(AI_CITY, top_k=1), "camera-pair")
    assert pairs["a -> c"].mAP_at_k == 1  # behind the b-match, which is out of this list


def test_gaps_by_hand() -> None:
    query = records("q", ["7", "7"], ["a", "a"], time=[1000.0, np.nan])
    gallery = records("g", ["7"] * 5, ["b"] * 5, time=[1059.0, 940.0, 1600.0, 1000 + 3600.0, np.nan])
    distances = Distances.from_matrix(np.zeros((2, 5)), query, gallery)
    gaps = match_slices(distances, MARKET, "gap")
    assert {name: m.relevant.tolist() for name, m in gaps.items()} == {
        "under 1 min": [1],
        "1 to 10 min": [1],
        "10 to 60 min": [1],
        "over 1 h": [1],
    }


def test_matches_that_are_no_candidates_stay_misses_of_their_slice() -> None:
    query = records("q", ["7"], ["a"])
    gallery = records("g", ["7", "7", "7"], ["b", "b", "c"])
    distances = Distances.from_matrix([[0.2, np.inf, np.inf]], query, gallery)
    pairs = match_slices(distances, MARKET, "camera-pair")
    assert pairs["a -> b"].mAP == 0.5
    assert (pairs["a -> c"].mAP, pairs["a -> c"].mINP, pairs["a -> c"].rank1) == (0, 0, 0)


def test_tracklets_are_units_of_a_pair_too() -> None:
    query = records("q", ["7"], ["a"])
    gallery = records("g", ["x", "7", "7", "7"], ["b", "b", "b", "c"], tracklet=["s", "t", "t", "u"])
    distances = Distances.from_matrix([[0.2, 0.9, 0.3, 0.1]], query, gallery)
    pairs = match_slices(distances, VERI_TRACKS, "camera-pair")
    assert {name: (m.relevant.tolist(), m.mAP) for name, m in pairs.items()} == {
        "a -> b": ([1], 0.5),
        "a -> c": ([1], 1.0),
    }


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([MARKET, CROSS_CAMERA, CAMERA_LESS]))
def test_each_pair_equals_the_definition(seed: int, protocol) -> None:
    """The list of a pair: without what the protocol removes and without matches in other cameras."""
    generator = np.random.default_rng(seed)
    matrix = generator.choice([0.0, 0.1, 0.2, 0.3, np.inf], (6, 15)).astype(np.float32)
    query = records("q", generator.choice(["1", "2", "3"], 6).tolist(), generator.choice(["a", "b"], 6).tolist())
    labels, cameras = generator.choice(["1", "2", "", "junk"], 15), generator.choice(["a", "b"], 15)
    gallery = records("g", labels.tolist(), cameras.tolist())
    distances = Distances.from_matrix(matrix, query, gallery)
    queries, images = (
        [oracle.Image(*row) for row in zip(side.path, side.identity.values, side.camera.values, strict=True)]
        for side in (query, gallery)
    )
    expected = {}
    for one in "ab":
        for other in "ab":
            rows = [q for q, image in enumerate(queries) if image.camera == one]

            def remove(row: int, g: int, rows: list[int] = rows, other: str = other) -> bool:
                query, image = queries[rows[row]], images[g]
                match_elsewhere = image.identity == query.identity and image.camera != other
                return match_elsewhere or oracle.removed(query, image, protocol)

            of_rows = oracle.codes(queries[q].identity for q in rows)
            of_images = oracle.codes(image.identity for image in images)
            with suppress(ZeroDivisionError):  # no query of the one camera has a match in the other
                made = oracle.evaluate(matrix[rows], of_rows, of_images, remove, top_k=protocol.top_k)
                expected[f"{one} -> {other}"] = made
    if not expected:
        with pytest.raises(InputError, match="unknown for all queries"):
            match_slices(distances, protocol, "camera-pair")
        return
    pairs = match_slices(distances, protocol, "camera-pair")
    assert list(pairs) == list(expected)
    for name, numbers in expected.items():
        pair = pairs[name]
        assert (pair.mAP if protocol.top_k is None else pair.mAP_at_k) == pytest.approx(numbers["mAP"])
        assert pair.mINP == pytest.approx(numbers["mINP"])
        assert pair.cmc == pytest.approx(numbers["cmc"])
        assert pair.num_queries + numbers["skipped"] == sum(image.camera == name[0] for image in queries)


def test_facts_travel() -> None:
    query, gallery = records("q", ["7"], ["a"]), records("g", ["7"], ["b"])
    distances = replace(Distances.from_matrix([[0.1]], query, gallery), steps=("x",), reranked=True, transductive=True)
    pair = match_slices(distances, MARKET, "camera-pair")["a -> b"]
    assert (pair.steps, pair.reranked, pair.transductive, pair.protocol) == (("x",), True, True, MARKET)


def test_invalid_input_gives_one_sentence() -> None:
    query, gallery = records("q", ["7"]), records("g", ["7"])
    distances = Distances.from_matrix([[0.1]], query, gallery)
    metrics = evaluate_distances(distances, CAMERA_LESS)
    cases = [
        ("slices by 'colour' are unknown; use one of camera, color", lambda: slices(metrics, query, "colour")),
        ("slices by color: unknown for all queries", lambda: slices(metrics, query, "color")),
        ("slices: 2 records for metrics of 1 queries", lambda: slices(metrics, records("q", ["7", "7"]), "color")),
        ("slices by 'pair' are unknown; use one of camera-pair, gap", lambda: match_slices(distances, MARKET, "pair")),
        (
            "slices by camera-pair: unknown for all queries and matches",
            lambda: match_slices(distances, CAMERA_LESS, "camera-pair"),
        ),
        ("slices by gap: unknown for all queries and matches", lambda: match_slices(distances, CAMERA_LESS, "gap")),
        ("draws galleries", lambda: match_slices(distances, VEHICLE_ID, "gap")),
        ("needs the camera", lambda: match_slices(distances, MARKET, "gap")),
    ]
    for message, call in cases:
        with pytest.raises(InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    assert not set(QUERY_BINS) & set(MATCH_BINS)


def test_an_interval_over_vehicles_is_wider_where_their_queries_are_alike() -> None:
    generator = np.random.default_rng(4)
    vehicles, each = 30, 8
    query = records("q", [str(i // each) for i in range(vehicles * each)])
    gallery = records("g", [str(i) for i in range(vehicles)])
    matrix = np.repeat(generator.random((vehicles, vehicles)).astype(np.float32), each, axis=0)
    metrics = evaluate_distances(Distances.from_matrix(matrix, query, gallery), CAMERA_LESS)

    def width(metrics: Metrics) -> float:
        low, high = interval(metrics, "mAP")
        assert low <= metrics.mAP <= high
        return high - low

    single = replace(metrics, identity=None)
    assert 2.2 < width(metrics) / width(single) < 3.5  # eight equal queries: sqrt(8) = 2.8 times as wide
    assert interval(replace(metrics, identity=np.arange(len(query))), "mAP") == interval(single, "mAP")
    half = metrics.of(np.arange(len(query)) % each < each // 2)
    assert len(np.unique(half.identity)) == vehicles and 1.5 < width(half) / width(replace(half, identity=None)) < 2.6
    # queries of one to three draws
    drawn = evaluate_repeated(matrix @ matrix.T, identity=query.identity.codes, repeats=3)
    apart = replace(drawn, identity=np.arange(len(query)))
    assert interval(apart, "mAP") == interval(replace(drawn, identity=None), "mAP")
    assert width(drawn) != width(apart)

"""Open-set numbers against hand-worked searches and against their definition in plain loops."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from oracles import open_set as oracle
from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.retrieval import CAMERA_LESS, CROSS_CAMERA, MARKET, VEHICLE_ID, VERI_TRACKS, Distances, exclude_same_camera
from vreid.retrieval.evaluation.open_set import OpenSet, leave_out, open_set

NUMBERS = ("fpir", "fnir", "fnir_any_rank", "tnr", "refusal_f1")


def records(name: str, identity: list[str], camera: list[str] | None = None, **columns) -> Records:
    return Records.of(path=[f"{name}{i}" for i in range(len(identity))], identity=identity, camera=camera, **columns)


def by_hand() -> OpenSet:
    """Five queries in camera a; gallery: 7 in b, 7 in a, 8 in b, a junk picture, one that nobody knows."""
    query = records("q", ["7", "8", "9", "10", "junk"], ["a"] * 5)
    gallery = records("g", ["7", "7", "8", "junk", ""], ["b", "a", "b", "b", "b"])
    distances = [
        [0.2, 0.0, 0.5, 0.1, 0.6],  # own pass (0.0) removed, junk (0.1) never counts: mate first, at 0.2
        [0.3, 0.9, 0.4, 0.1, 0.8],  # another vehicle at 0.3 before the mate at 0.4, rank 2
        [0.5, 0.6, 0.7, 0.0, 0.9],  # no mate; nearest 0.5
        [0.9, 0.8, 0.9, 0.0, 0.25],  # no mate; nearest is the unknown vehicle at 0.25
        [0.0, 0.0, 0.0, 0.0, 0.0],  # junk is not judged
    ]
    return open_set(Distances.from_matrix(distances, query, gallery), MARKET)


def test_what_each_query_found() -> None:
    found = by_hand()
    assert found.query.tolist() == [0, 1, 2, 3]
    assert found.nearest.tolist() == pytest.approx([0.2, 0.3, 0.5, 0.25])
    assert found.known.tolist() == [True, True, False, False]
    assert found.positive.tolist() == pytest.approx([0.2, 0.4, np.inf, np.inf])
    assert found.rank.tolist() == [1, 2, 0, 0]
    assert (found.num_known, found.num_unknown, found.gallery_images) == (2, 2, 5)


def test_errors_by_hand() -> None:
    # T:     0.1   0.2   0.25  0.3   0.4   0.5
    # FPIR   0     0     1/2   1/2   1/2   1      (0.25 and 0.5)
    # FNIR   1     1/2   1/2   1/2   1/2   1/2    (only query 0 has its mate first, at 0.2)
    # any    1     1/2   1/2   1/2   0     0      (0.2 and 0.4)
    # refused, of mate-less: 2 2 1 1 1 0; of known: 2 1 1 0 0 0; F1 = 2 TP / (2 + refused)
    at = by_hand().errors([0.1, 0.201, 0.251, 0.301, 0.401, 0.501])
    assert at.fpir.tolist() == [0, 0, 0.5, 0.5, 0.5, 1]
    assert at.fnir.tolist() == [1, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert at.fnir_any_rank.tolist() == [1, 0.5, 0.5, 0.5, 0, 0]
    assert at.tnr.tolist() == [1, 1, 0.5, 0.5, 0.5, 0]
    assert at.refusal_f1.tolist() == pytest.approx([4 / 6, 4 / 5, 2 / 4, 2 / 3, 2 / 3, 0])


def test_a_distance_equal_to_the_threshold_is_within() -> None:
    found = by_hand()
    at = found.errors(found.nearest[3])
    assert (float(at.fpir), float(at.tnr)) == (0.5, 0.5)


def test_the_curve_holds_every_change_and_ends_where_all_are_found() -> None:
    curve = by_hand().curve()
    assert curve.threshold.tolist() == pytest.approx([0.2, 0.25, 0.3, 0.4, 0.5])
    assert curve.fpir.tolist() == [0, 0.5, 0.5, 0.5, 1]
    assert curve.fnir_any_rank.tolist() == [0.5, 0.5, 0.5, 0, 0]


def test_fnir_at_fpir_by_hand() -> None:
    found = by_hand()
    # below 0.25 nobody is wrongly found: query 0 at 0.2 is found, query 1 (0.4) is not; one of two allowed: below 0.5
    assert found.fnir_at_fpir(0.49) == 0.5
    assert found.fnir_at_fpir(0.49, any_rank=True) == 0.5
    assert found.fnir_at_fpir(0.5, any_rank=True) == 0
    assert found.fnir_at_fpir(0.5) == 0.5


def test_a_positive_tied_with_an_earlier_negative_is_not_first() -> None:
    query = records("q", ["1", "1", "5"])
    gallery = records("g", ["2", "1"])
    found = open_set(Distances.from_matrix([[0.3, 0.3], [0.3, 0.2], [0.9, 0.9]], query, gallery), CAMERA_LESS)
    assert found.rank.tolist() == [2, 1, 0]
    assert float(found.errors(0.5).fnir) == 0.5


def test_excluded_positives_are_missed_and_queries_without_candidates_rejected() -> None:
    query = records("q", ["1", "2", "3", "4"], ["a", "a", "b", "b"])
    gallery = records("g", ["1", "2"], ["a", "b"])
    distances = exclude_same_camera(Distances.from_matrix(np.full((4, 2), 0.1), query, gallery))
    found = open_set(distances, CAMERA_LESS)
    assert (found.known.tolist(), found.rank.tolist()) == ([True, True, False, False], [0, 1, 0, 0])
    assert float(found.errors(3.9).fnir_any_rank) == 0.5
    only_own = open_set(
        exclude_same_camera(Distances.from_matrix(np.full((4, 2), 0.1), query, gallery.with_(camera=["b", "b"]))),
        CAMERA_LESS,
    )
    assert np.isinf(only_own.nearest[2:]).all()
    assert float(only_own.errors(3.9).fpir) == 0


def test_a_protocol_of_tracklets_ranks_tracklets() -> None:
    query = records("q", ["1", "9"], ["a", "a"])
    gallery = records("g", ["2", "2", "1", "1"], ["b"] * 4, tracklet=["t", "t", "u", "u"])
    distances = Distances.from_matrix([[0.1, 0.2, 0.9, 0.3], [0.5, 0.6, 0.7, 0.4]], query, gallery)
    assert open_set(distances, MARKET).rank.tolist() == [3, 0]
    tracks = open_set(distances, VERI_TRACKS)
    assert tracks.rank.tolist() == [2, 0]
    assert tracks.positive[0] == np.float32(0.3)


@st.composite
def searched(draw) -> tuple[list[list[float]], list[int], list[int], list[int], list[int]]:
    """Few distinct distances, so that ties are everywhere; every label kind; queries with and without a mate."""
    queries, gallery = draw(st.integers(2, 6)), draw(st.integers(1, 8))
    cells = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, np.inf]), min_size=gallery, max_size=gallery)
    distances = [draw(cells) for _ in range(queries)]
    ids = st.sampled_from([0, 1, 2, -1, -2])
    identity = draw(st.lists(ids, min_size=gallery, max_size=gallery))
    query_identity = draw(st.lists(st.sampled_from([0, 1, 7, -2]), min_size=queries, max_size=queries))
    cameras = st.sampled_from([0, 1])
    camera = draw(st.lists(cameras, min_size=gallery, max_size=gallery))
    query_camera = draw(st.lists(cameras, min_size=queries, max_size=queries))
    return distances, query_identity, identity, query_camera, camera


def named(codes: list[int]) -> list[str]:
    return ["junk" if code == -2 else "" if code == -1 else str(code) for code in codes]


@settings(max_examples=120)
@given(searched(), st.sampled_from([MARKET, CROSS_CAMERA, CAMERA_LESS]), st.floats(0.01, 0.99))
def test_everything_equals_the_definition(case, protocol, fpir) -> None:
    distances, query_identity, identity, query_camera, camera = case

    def remove(q, g):
        same = query_camera[q] == camera[g]
        return {
            "itself": False,
            "same_camera": same,
            "same_identity_and_camera": same and query_identity[q] == identity[g] >= 0,
        }[protocol.exclude]

    searches = oracle.searches(distances, query_identity, identity, remove)
    made = Distances.from_matrix(
        distances,
        records("q", named(query_identity), named(query_camera)),
        records("g", named(identity), named(camera)),
    )
    known = sum(has_mate for _, has_mate in searches)
    if known in (0, len(searches)):
        with pytest.raises(InputError, match="open set: "):
            open_set(made, protocol)
        return
    found = open_set(made, protocol)
    for threshold in (-1, 0, 0.1, 0.25, 0.5, 0.7, 1, 2):
        at, expected = found.errors(threshold), oracle.errors(searches, threshold)
        assert {name: float(getattr(at, name)) for name in NUMBERS} == pytest.approx(expected)
    assert found.fnir_at_fpir(fpir) == pytest.approx(oracle.fnir_at_fpir(searches, fpir))
    assert found.fnir_at_fpir(fpir, any_rank=True) == pytest.approx(
        oracle.fnir_at_fpir(searches, fpir, "fnir_any_rank")
    )


def drawn(seed: int, *, known: int = 30, unknown: int = 30, per_vehicle: int = 1) -> OpenSet:
    """Queries with random distances; `per_vehicle` of them are alike."""
    generator = np.random.default_rng(seed)
    count = (known + unknown) // per_vehicle
    nearest = np.repeat(generator.random(count).astype(np.float32), per_vehicle)
    has = np.arange(known + unknown) < known
    rank = np.where(has, np.repeat(generator.integers(1, 3, count), per_vehicle), 0)
    mate = np.where(has, nearest + np.float32(0.1) * (rank - 1), np.inf).astype(np.float32)
    identity = np.repeat(np.arange(count), per_vehicle).astype(np.int32)
    return OpenSet(np.arange(len(has)), identity, nearest, has, mate, rank, gallery_images=100)


@settings(max_examples=30)
@given(st.integers(0, 999))
def test_errors_are_monotone_in_the_threshold_and_do_not_depend_on_the_order_of_queries(seed) -> None:
    found = drawn(seed)
    curve = found.curve()
    assert (np.diff(curve.fpir) >= 0).all()
    assert (np.diff(curve.fnir) <= 0).all()
    assert (np.diff(curve.fnir_any_rank) <= 0).all()
    assert (curve.fnir >= curve.fnir_any_rank).all()
    shuffled = found.of(np.random.default_rng(seed).permutation(len(found))).curve()
    for name in ("threshold", *NUMBERS):
        assert np.array_equal(getattr(curve, name), getattr(shuffled, name))
    levels = [found.fnir_at_fpir(fpir) for fpir in (0.01, 0.1, 0.3, 0.9)]
    assert levels == sorted(levels, reverse=True)


def test_the_order_of_the_gallery_does_not_matter_where_nothing_ties() -> None:
    generator = np.random.default_rng(5)
    query = records("q", [str(i % 9) for i in range(20)])
    gallery = records("g", [str(i % 6) for i in range(30)])
    matrix = generator.random((20, 30)).astype(np.float32)
    order = generator.permutation(30)
    one = open_set(Distances.from_matrix(matrix, query, gallery), CAMERA_LESS)
    other = open_set(Distances.from_matrix(matrix[:, order], query, gallery[order]), CAMERA_LESS)
    for name in ("nearest", "positive", "rank", "known"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_the_bootstrap_repeats_by_seed_and_is_wider_over_vehicles_of_alike_queries() -> None:
    found = drawn(1, known=300, unknown=300, per_vehicle=10)

    def number(some: OpenSet) -> float:
        return float(some.errors(0.5).fpir)

    def width(**options) -> float:
        low, high = found.interval(number, resamples=300, **options)
        assert low <= number(found) <= high
        return high - low

    assert np.array_equal(found.interval(number, resamples=50), found.interval(number, resamples=50))
    assert not np.array_equal(found.interval(number, resamples=50), found.interval(number, resamples=50, seed=1))
    # ten equal queries a vehicle tell as much as one: intervals are sqrt(10) = 3.2 times as wide
    assert 2.5 < width(by="identity") / width(by="query") < 4


def test_queries_of_one_kind_have_no_rate_of_the_other() -> None:
    known = drawn(2).of(np.arange(30))
    at = known.errors(0.5)
    assert np.isnan([at.fpir, at.tnr]).all()
    assert 0 <= float(at.fnir) <= 1
    low, high = known.interval(lambda some: some.errors(0.5).fnir, resamples=20)
    assert low <= at.fnir <= high


def test_errors_at_one_threshold_are_those_of_the_curve_with_exact_intervals() -> None:
    found = drawn(6)
    reported, errors = found.at(0.5), found.errors(0.5)
    for name in NUMBERS:
        low, high = reported[f"{name}_interval"]
        assert reported[name] == pytest.approx(float(getattr(errors, name)))
        assert low <= reported[name] <= high
    missed = int((found.positive[found.known] > 0.5).sum())
    exact = binomtest(missed, 30).proportion_ci(method="exact")
    assert reported["fnir_any_rank_interval"] == pytest.approx([exact.low, exact.high])


def test_several_numbers_are_drawn_at_once() -> None:
    low, high = drawn(2).interval(lambda some: [some.fnir_at_fpir(0.1), 7.0], resamples=20)
    assert low.shape == high.shape == (2,)
    assert low[1] == high[1] == 7


def test_as_dict_leaves_out_rates_that_are_less_than_one_query() -> None:
    numbers = json.loads(json.dumps(drawn(3, known=40, unknown=50).as_dict(resamples=20)))
    assert [row["fpir"] for row in numbers["fnir_at_fpir"]] == [0.05, 0.1]
    row = numbers["fnir_at_fpir"][0]
    assert row["fnir_interval"][0] <= row["fnir"] <= row["fnir_interval"][1]
    assert row["fnir_any_rank"] <= row["fnir"]
    assert (numbers["num_mated"], numbers["num_without_mate"]) == (40, 50)
    few = drawn(3, known=4, unknown=6)
    assert few.as_dict()["fnir_at_fpir"] == []


def test_leave_out_takes_whole_vehicles_of_both_sides() -> None:
    query = records("q", ["1", "2", "3", "4", "9", "junk", ""])
    gallery = records("g", ["1", "1", "2", "3", "4", "5", "junk", ""])
    stays = leave_out(query, gallery, 0.5, seed=3)
    gone = set(gallery.identity.values[~stays])
    assert len(gone) == 2
    assert gone < {"1", "2", "3", "4"}
    assert not set(gallery.identity.values[stays]) & gone
    assert np.array_equal(stays, leave_out(query, gallery, 0.5, seed=3))
    assert any(not np.array_equal(stays, leave_out(query, gallery, 0.5, seed=seed)) for seed in range(4, 9))
    assert len(set(gallery.identity.values[~leave_out(query, gallery, 0.01)])) == 1
    assert len(set(gallery.identity.values[~leave_out(query, gallery, 0.99)])) == 3  # one vehicle stays


def test_vehicles_left_out_become_queries_without_a_mate() -> None:
    query, gallery = records("q", ["1", "2", "3"]), records("g", ["1", "2", "3"])
    matrix = 1 - np.eye(3, dtype=np.float32)
    stays = leave_out(query, gallery, 0.34)
    found = open_set(Distances.from_matrix(matrix[:, stays], query, gallery[stays]), CAMERA_LESS, left_out=1)
    assert (found.num_unknown, found.gallery_images) == (1, 2)
    assert "vehicles left out: 1" in repr(found)
    assert found.as_dict()["vehicles_left_out"] == 1


def test_invalid_input_gives_one_sentence() -> None:
    query, gallery = records("q", ["1", "2"], ["a", "a"]), records("g", ["1", "2"], ["b", "b"])
    full = Distances.from_matrix(np.zeros((2, 2)), query, gallery)
    cases = [
        ("vehicles of all 2 queries are in the gallery", lambda: open_set(full, MARKET)),
        (
            "none of the 2 queries has a positive",
            lambda: open_set(
                Distances.from_matrix(np.zeros((2, 2)), query, gallery.with_(identity=["8", "9"])), MARKET
            ),
        ),
        (
            r"q1 \(query 2\): has no identity",
            lambda: open_set(Distances.from_matrix(np.zeros((2, 2)), query.with_(identity=["1", ""]), gallery), MARKET),
        ),
        ("draws galleries", lambda: open_set(full, VEHICLE_ID)),
        ("share is 1", lambda: leave_out(query, gallery, 1)),
        ("share is 0", lambda: leave_out(query, gallery, 0)),
        ("have 0 vehicles in common", lambda: leave_out(query.with_(identity=Labels.constant(None, 2)), gallery, 0.5)),
        ("not a finite number", lambda: drawn(0).errors([0.1, np.inf])),
        ("not a finite number", lambda: drawn(0).errors(np.nan)),
        ("fpir is 1", lambda: drawn(0).fnir_at_fpir(1)),
        ("by is .camera.; use one of identity, query", lambda: drawn(0).interval(len, by="camera")),
        ("resamples is 0", lambda: drawn(0).interval(len, resamples=0)),
    ]
    for message, call in cases:
        with pytest.raises(InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_facts_of_the_distances_travel() -> None:
    query, gallery = records("q", ["1", "3"]), records("g", ["1", "2"])
    distances = replace(
        Distances.from_matrix(np.eye(2), query, gallery),
        steps=("re-ranking",),
        reranked=True,
        transductive=True,
        features="model a",
    )
    found = open_set(distances, CAMERA_LESS)
    assert (found.steps, found.reranked, found.transductive) == (("re-ranking",), True, True)
    assert (found.features, found.protocol) == ("model a", "camera-less")

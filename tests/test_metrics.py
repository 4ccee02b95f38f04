"""Metrics against hand-worked lists and against the definition in plain loops."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import metrics as oracle
from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.retrieval import CAMERA_LESS, CROSS_CAMERA, MARKET, Distances, evaluate, evaluate_distances, interval
from vreid.retrieval.distances import Matrix
from vreid.retrieval.evaluation import ranks_of


def one_query(distances, gallery_identity, gallery_camera=None, **options):
    """One query: identity 1, camera 0."""
    cameras = [9] * len(gallery_identity) if gallery_camera is None else gallery_camera
    return evaluate([distances], query_identity=[1], gallery_identity=gallery_identity, query_camera=[0],
                    gallery_camera=cameras, **options)  # fmt: skip


def test_average_precision_by_hand():
    # order: hit, miss, hit, miss, hit -> (1/1 + 2/3 + 3/5) / 3
    metrics = one_query([0.1, 0.2, 0.3, 0.4, 0.5], [1, 2, 1, 3, 1])
    assert metrics.mAP == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert metrics.mINP == pytest.approx(3 / 5)
    assert metrics.mAP_at_k is None
    assert metrics.cmc.tolist() == [1.0] * 50


def test_both_normalisers_by_hand():
    # hits at ranks 2, 3 and 5, list cut at 2: one hit of precision 1/2 inside
    distances, identities = [0.1, 0.2, 0.3, 0.4, 0.5], [2, 1, 1, 3, 1]
    total = one_query(distances, identities, top_k=2)
    assert total.mAP_at_k == pytest.approx((1 / 2) / 3)
    assert one_query(distances, identities, top_k=2, normaliser="min").mAP_at_k == pytest.approx((1 / 2) / 2)
    assert total.mAP == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)
    assert total.cmc[:3].tolist() == [0.0, 1.0, 1.0]
    assert total.as_dict()["mAP@2"] == total.mAP_at_k
    assert "mAP@2 16.7" in str(total)


def test_same_identity_and_camera_is_removed_and_junk_never_counts():
    # gallery 0: own camera, removed; gallery 1: junk; then miss, hit -> AP 1/2
    metrics = one_query([0.1, 0.2, 0.3, 0.4], [1, -2, 5, 1], gallery_camera=[0, 3, 0, 3])
    assert metrics.mAP == pytest.approx(1 / 2)
    assert metrics.first_hit.tolist() == [2]
    assert metrics.relevant.tolist() == [1]


def test_unknown_camera_equals_no_other_and_unknown_gallery_identity_is_a_distractor():
    metrics = evaluate([[0.1, 0.2]], query_identity=["a"], gallery_identity=["", "a"], query_camera=[""],
                       gallery_camera=["", ""])  # fmt: skip
    assert metrics.first_hit.tolist() == [2]


def test_ties_go_to_the_smaller_gallery_index():
    assert one_query([0.5, 0.5, 0.5], [2, 1, 1]).first_hit.tolist() == [2]
    assert one_query([0.5, 0.5, 0.5], [1, 2, 1]).mAP == pytest.approx((1 + 2 / 3) / 2)


def test_queries_without_a_mate_are_counted_and_leave_the_means_alone():
    metrics = evaluate([[0.1, 0.2], [0.2, 0.1], [0.3, 0.1]], query_identity=[1, 7, 2], gallery_identity=[1, 2],
                       query_camera=[0, 0, 0], gallery_camera=[1, 1])  # fmt: skip
    assert (metrics.num_queries, metrics.num_skipped, metrics.mAP) == (2, 1, 1.0)
    assert np.isnan(metrics.average_precision).tolist() == [False, True, False]
    assert json.loads(json.dumps(metrics.as_dict()))["num_skipped"] == 1


def test_ranks_beyond_the_candidates_do_not_exist():
    row = np.array([np.inf, 1, 0, np.inf], dtype=np.float32)
    assert ranks_of(row, np.array([0, 1])).tolist() == [2]
    assert ranks_of(row, np.array([0, 3])).tolist() == []


@st.composite
def labelled(draw):
    """Few distinct distances, so that ties are everywhere; every label kind."""
    queries, gallery = draw(st.integers(1, 4)), draw(st.integers(1, 24))
    cells = st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.0, float("inf")]), min_size=gallery, max_size=gallery)
    distances = [draw(cells) for _ in range(queries)]
    identity = draw(st.lists(st.sampled_from([0, 1, 2, -1, -2]), min_size=gallery, max_size=gallery))
    camera = draw(st.lists(st.sampled_from([0, 1, 2, -1]), min_size=gallery, max_size=gallery))
    query_identity = draw(st.lists(st.sampled_from([0, 1, -2]), min_size=queries, max_size=queries))
    query_camera = draw(st.lists(st.sampled_from([0, 1, -1]), min_size=queries, max_size=queries))
    return np.array(distances, dtype=np.float32), query_identity, identity, query_camera, camera


@settings(max_examples=150, deadline=None)
@given(labelled(), st.sampled_from([(None, "total"), *itertools.product([1, 3, 100], ["total", "min"])]))
def test_evaluate_equals_the_definition(case, cut):
    top_k, normaliser = cut
    distances, query_identity, identity, query_camera, camera = case

    def remove(q, g):
        same = query_identity[q] == identity[g] >= 0 and query_camera[q] == camera[g]
        return same and camera[g] >= 0

    call = {"query_identity": query_identity, "gallery_identity": identity, "query_camera": query_camera,
            "gallery_camera": camera, "top_k": top_k, "normaliser": normaliser}  # fmt: skip
    try:
        expected = oracle.evaluate(distances, query_identity, identity, remove, top_k, normaliser)
    except ZeroDivisionError:  # no query has a mate
        with pytest.raises(InputError, match="none of the"):
            evaluate(distances, **call)
        return
    metrics = evaluate(distances, **call)
    assert (metrics.mAP if top_k is None else metrics.mAP_at_k) == pytest.approx(expected["mAP"])
    assert metrics.cmc == pytest.approx(expected["cmc"])
    assert metrics.mINP == pytest.approx(expected["mINP"])
    assert metrics.num_skipped == expected["skipped"]


@pytest.mark.parametrize(
    "protocol", [MARKET, CAMERA_LESS, CROSS_CAMERA, replace(CAMERA_LESS, top_k=3, normaliser="min")]
)
def test_every_protocol_equals_the_definition_on_its_own_gallery(protocol):
    generator = np.random.default_rng(3)
    count = 60
    identity = [str(i) for i in generator.integers(0, 8, count)]
    camera = [f"c{i}" for i in generator.integers(0, 3, count)]
    records = Records.of(path=[f"{i}.jpg" for i in range(count)], identity=identity, camera=camera)
    distances = generator.integers(0, 12, (count, count)).astype(np.float32)

    def remove(q, g):
        return {
            "itself": q == g,
            "same_camera": camera[q] == camera[g],
            "same_identity_and_camera": identity[q] == identity[g] and camera[q] == camera[g],
        }[protocol.exclude]

    codes = [int(i) for i in identity]
    expected = oracle.evaluate(distances, codes, codes, remove, protocol.top_k, protocol.normaliser)
    metrics = evaluate_distances(Distances.from_matrix(distances, records, records), protocol)
    assert (metrics.mAP if protocol.top_k is None else metrics.mAP_at_k) == pytest.approx(expected["mAP"])
    assert metrics.cmc == pytest.approx(expected["cmc"])
    assert metrics.protocol is protocol


def test_strings_and_codes_agree():
    distances = np.random.default_rng(0).random((5, 30), dtype=np.float32)
    codes = np.random.default_rng(1).integers(-2, 4, 30)
    names = ["junk" if c == -2 else "" if c == -1 else f"v{c}" for c in codes]
    cameras = np.arange(30) % 4
    integer = evaluate(distances, query_identity=[0, 1, 2, 3, 0], gallery_identity=codes, query_camera=[0] * 5,
                       gallery_camera=cameras)  # fmt: skip
    text = evaluate(distances, query_identity=["v0", "v1", "v2", "v3", "v0"], gallery_identity=names,
                    query_camera=["0"] * 5, gallery_camera=[str(c) for c in cameras])  # fmt: skip
    assert integer.as_dict() == text.as_dict()


def test_interval_is_seeded_and_holds_the_mean():
    generator = np.random.default_rng(0)
    identity = generator.integers(0, 10, 200)
    metrics = evaluate(generator.random((40, 200)), query_identity=identity[:40], gallery_identity=identity,
                       query_camera=np.zeros(40, int), gallery_camera=np.ones(200, int), top_k=10)  # fmt: skip
    for name, value in (("mAP", metrics.mAP), ("mAP@10", metrics.mAP_at_k), ("mINP", metrics.mINP)):
        low, high = interval(metrics, name, seed=4, resamples=300)
        assert low < value < high
        assert (low, high) == interval(metrics, name, seed=4, resamples=300)
    assert interval(metrics, "mAP", seed=5, resamples=300) != interval(metrics, "mAP", seed=4, resamples=300)
    with pytest.raises(InputError, match="use one of mAP, mAP@10"):
        interval(metrics, "mAP@100")
    with pytest.raises(InputError, match="resamples"):
        interval(metrics, "mAP", resamples=0)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # 200 samples of 60 queries whose AP is 0 or 1 with probability 0.4: about 95 % of the intervals hold 0.4
    generator = np.random.default_rng(1)
    base = one_query([0.1], [1])
    held = 0
    for _ in range(200):
        values = (generator.random(60) < 0.4).astype(float)
        low, high = interval(replace(base, average_precision=values, average_precision_at_k=values,
                                     relevant=np.ones(60, int)), "mAP", resamples=200)  # fmt: skip
        held += low <= 0.4 <= high
    assert 175 <= held <= 200


@pytest.mark.parametrize(
    ("distances", "labels", "message"),
    [
        ([[0.1, np.nan]], {}, "row 1 holds NaN"),
        ([[0.1]], {}, "gallery_identity: shape"),
        ([0.1, 0.2], {}, "must be \\(queries, gallery images\\)"),
        (np.zeros((1, 0)), {}, "neither of them zero"),
        ([["x", "y"]], {}, "must be numbers"),
        ([[0.1, 0.2]], {"query_identity": [-1]}, "evaluation needs labels"),
        ([[0.1, 0.2]], {"query_identity": [1, 2]}, "query_identity: shape"),
        ([[0.1, 0.2]], {"gallery_camera": [0.5, 1]}, "whole numbers or names"),
        ([[0.1, 0.2]], {"gallery_identity": [5, 6]}, "none of the 1 queries"),
        ([[0.1, 0.2]], {"top_k": 0}, "top_k is 0"),
        ([[0.1, 0.2]], {"normaliser": "sum"}, "normaliser 'sum' is unknown"),
    ],
)
def test_wrong_input_is_told_in_one_sentence(distances, labels, message):
    call = {"query_identity": [1], "gallery_identity": [1, 2], "query_camera": [0], "gallery_camera": [1, 1], **labels}
    with pytest.raises(InputError, match=message) as error:
        evaluate(distances, **call)
    assert "\n" not in str(error.value)


def test_evaluation_needs_labels_and_cameras_where_the_protocol_does():
    known = Records.of(path=["q.jpg", "g.jpg"], identity=["1", "1"], camera=["a", "b"])
    matrix = np.zeros((2, 2))
    with pytest.raises(InputError, match=r"q.jpg \(query 1\): has no identity"):
        unlabelled = known.with_(identity=Labels.constant(None, 2))
        evaluate_distances(Distances.from_matrix(matrix, unlabelled, known), MARKET)
    blind = known.with_(camera=["a", ""])
    with pytest.raises(InputError, match=r"g.jpg \(query 2\): protocol market needs the camera"):
        evaluate_distances(Distances.from_matrix(matrix, blind, known), MARKET)
    assert evaluate_distances(Distances.from_matrix(matrix, blind, known), CAMERA_LESS).num_queries == 2
    broken = replace(Distances.from_matrix(matrix, known, known), source=Matrix(np.array([[0, 1], [np.nan, 0]], "f4")))
    with pytest.raises(InputError, match="NaN between queries 1 and 2"):
        evaluate_distances(broken, CAMERA_LESS)

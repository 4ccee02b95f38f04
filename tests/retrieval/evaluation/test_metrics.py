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
from vreid.retrieval import (
    CAMERA_LESS,
    MARKET,
    Distances,
    evaluate,
    evaluate_distances,
    evaluate_features,
    evaluate_repeated,
    evaluate_tracks,
    interval,
)
from vreid.retrieval.evaluation.evaluate import ranks_of
from vreid.retrieval.tiles import Matrix


def one_query(distances, gallery_identity, gallery_camera=None, **options):
    """One query: identity 1, camera 0."""
    cameras = [9] * len(gallery_identity) if gallery_camera is None else gallery_camera
    return evaluate(
        [distances],
        query_identity=[1],
        gallery_identity=gallery_identity,
        query_camera=[0],
        gallery_camera=cameras,
        **options,
    )


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
    metrics = evaluate(
        [[0.1, 0.2]], query_identity=["a"], gallery_identity=["", "a"], query_camera=[""], gallery_camera=["", ""]
    )
    assert metrics.first_hit.tolist() == [2]


def test_ties_go_to_the_smaller_gallery_index():
    assert one_query([0.5, 0.5, 0.5], [2, 1, 1]).first_hit.tolist() == [2]
    assert one_query([0.5, 0.5, 0.5], [1, 2, 1]).mAP == pytest.approx((1 + 2 / 3) / 2)


def test_queries_without_a_mate_are_counted_and_leave_the_means_alone():
    metrics = evaluate(
        [[0.1, 0.2], [0.2, 0.1], [0.3, 0.1]],
        query_identity=[1, 7, 2],
        gallery_identity=[1, 2],
        query_camera=[0, 0, 0],
        gallery_camera=[1, 1],
    )
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


HOW = [
    {"top_k": top_k, "normaliser": normaliser, "average_precision": average_precision}
    for top_k, normaliser in ((None, "total"), *itertools.product([1, 3, 100], ["total", "min"]))
    for average_precision in ("rectangular", "trapezoid")
]


@settings(max_examples=150)
@given(labelled(), st.sampled_from(HOW))
def test_evaluate_equals_the_definition(case, how):
    distances, query_identity, identity, query_camera, camera = case

    def remove(q, g):
        same = query_identity[q] == identity[g] >= 0 and query_camera[q] == camera[g]
        return same and camera[g] >= 0

    call = {
        "query_identity": query_identity,
        "gallery_identity": identity,
        "query_camera": query_camera,
        "gallery_camera": camera,
        **how,
    }
    try:
        expected = oracle.evaluate(distances, query_identity, identity, remove, **how)
    except ZeroDivisionError:  # no query has a mate
        with pytest.raises(InputError, match="none of the"):
            evaluate(distances, **call)
        return
    metrics = evaluate(distances, **call)
    assert (metrics.mAP if how["top_k"] is None else metrics.mAP_at_k) == pytest.approx(expected["mAP"])
    assert metrics.cmc == pytest.approx(expected["cmc"])
    assert metrics.mINP == pytest.approx(expected["mINP"])
    assert metrics.num_skipped == expected["skipped"]


def test_trapezoid_average_precision_by_hand():
    # hit, miss, hit, miss, hit; precision by rank 1, 1/2, 2/3, 1/2, 3/5 after 1 at rank 0: only hits raise recall
    metrics = one_query([0.1, 0.2, 0.3, 0.4, 0.5], [1, 2, 1, 3, 1], average_precision="trapezoid", top_k=4)
    assert metrics.mAP == pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (1 / 2 + 3 / 5) / 2) / 3)
    assert metrics.mAP_at_k == pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 3)
    assert one_query([0.1, 0.2], [2, 1], average_precision="trapezoid").mAP == pytest.approx((0 + 1 / 2) / 2)


def tracks(distances, tracklet, gallery_identity, gallery_camera, **options):
    """One query: identity 1, camera 0."""
    return evaluate_tracks(
        [distances],
        query_identity=[1],
        gallery_identity=gallery_identity,
        query_camera=[0],
        gallery_camera=gallery_camera,
        tracklet_of_image=tracklet,
        **options,
    )


def test_tracks_are_as_near_as_their_nearest_image():
    # a: own pass, removed; b (other vehicle) .2, c (mate) .3 by its second image, the lone image (mate) .5
    tracklet = ["a", "c", "b", "c", "", "b"]
    metrics = tracks([0.1, 0.9, 0.2, 0.3, 0.5, 0.8], tracklet, [1, 1, 2, 1, 1, 2], [0, 5, 5, 5, 5, 5])
    assert metrics.mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (metrics.relevant.tolist(), metrics.first_hit.tolist()) == ([2], [2])
    assert (metrics.protocol.name, metrics.as_dict()["unit"]) == ("veri-tracks", "tracklet")
    # equal distances: the tracklet that comes first in the gallery, c, comes first
    assert tracks([0.1, 0.2, 0.2, 0.3, 0.5, 0.8], tracklet, [1, 1, 2, 1, 1, 2], [0, 5, 5, 5, 5, 5]).rank1 == 1


@pytest.mark.parametrize(
    ("identity", "camera", "tracklet", "message"),
    [
        ([1, 1, 2], [5, 5, 5], [7, 8, 8], r"\(gallery image 3\): its tracklet has images of more than one identity"),
        ([1, 2, 2], [5, 5, 6], [7, 8, 8], r"\(gallery image 3\): its tracklet has images of more than one camera"),
        ([1, 2, 2], [5, 5, 6], [7, 8], "tracklet_of_image: shape"),
    ],
)
def test_invalid_tracks_are_rejected(identity, camera, tracklet, message):
    with pytest.raises(InputError, match=message):
        tracks([0.1, 0.2, 0.3], tracklet, identity, camera)


def test_features_give_what_their_matrix_gives():
    generator = np.random.default_rng(2)
    query, gallery = generator.normal(size=(700, 3)), generator.normal(size=(90, 3))  # more than one tile
    labels = {
        f"{side}_{what}": generator.integers(0, kinds, count)
        for side, count in (("query", 700), ("gallery", 90))
        for what, kinds in (("identity", 9), ("camera", 3))
    }
    squared = ((query[:, None] - gallery) ** 2).sum(axis=2)
    by_features, by_matrix = (
        evaluate_features(query, gallery, top_k=10, **labels),
        evaluate(squared, top_k=10, **labels),
    )
    assert by_features.mAP == pytest.approx(by_matrix.mAP)
    assert by_features.mAP_at_k == pytest.approx(by_matrix.mAP_at_k)
    assert by_features.cmc == pytest.approx(by_matrix.cmc)
    assert by_features.num_queries + by_features.num_skipped == 700


# Places on a line: a at 0 and 10, b at 40 and 6. Mean reciprocal rank of the two queries left by each drawn gallery:
LINE, LINE_IDENTITY = np.array([0.0, 10.0, 40.0, 6.0]), ["a", "a", "b", "b"]
BY_GALLERY = {
    (0, 2): 3 / 4,  # 10: b at 30 behind a at 10 -> 1; 6: a at 6 before b at 34 -> 1/2
    (0, 3): 3 / 4,  # 10: b at 4 before a at 10 -> 1/2; 40: b at 34 before a at 40 -> 1
    (1, 2): 3 / 4,  # 0: a at 10 before b at 40 -> 1; 6: a at 4 before b at 34 -> 1/2
    (1, 3): 1 / 2,  # 0: b at 6 before a at 10 -> 1/2; 40: a at 30 before b at 34 -> 1/2
}


def test_drawn_galleries_by_hand():
    values = [BY_GALLERY[tuple(drawn)] for drawn in oracle.draws(LINE_IDENTITY, 8, seed=1)]
    assert set(values) == {1 / 2, 3 / 4}
    metrics = evaluate_repeated(np.abs(LINE[:, None] - LINE), identity=LINE_IDENTITY, repeats=8, seed=1)
    assert [draw.mAP for draw in metrics.draws] == values
    assert metrics.mAP == pytest.approx(np.mean(values))
    assert metrics.spread["mAP"] == pytest.approx(np.std(values, ddof=1))
    assert (metrics.num_queries, metrics.num_skipped) == (2, 0)
    reported = metrics.as_dict()
    assert (reported["protocol"], reported["repeats"], reported["seed"], reported["spread"]) == (
        "vehicle-id",
        8,
        1,
        metrics.spread,
    )
    assert f"mean of 8 drawn galleries, rank-1 \N{PLUS-MINUS SIGN} {100 * metrics.spread['rank1']:.1f}" in str(metrics)
    # 0 is a query of the galleries that hold 1, and then finds its vehicle at once if b's image is that at 40
    firsts = [1 if drawn[1] == 2 else 2 for drawn in oracle.draws(LINE_IDENTITY, 8, seed=1) if drawn[0] == 1]
    assert metrics.first_hit[0] == pytest.approx(np.mean(firsts))
    assert metrics.average_precision[0] == pytest.approx(np.mean([1 / first for first in firsts]))
    once = evaluate_repeated(np.abs(LINE[:, None] - LINE), identity=LINE_IDENTITY, repeats=1, seed=1)
    assert (once.mAP, once.spread["mAP"]) == (values[0], 0.0)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_repeats_are_a_plain_loop_over_draws_and_equal_for_equal_seeds(seed, repeats):
    generator = np.random.default_rng(seed)
    identity = [*"aab", *generator.choice(["a", "b", "c", "d", "junk"], 14).tolist()]
    distances = generator.integers(0, 9, (17, 17)).astype(np.float32)
    metrics = evaluate_repeated(distances, identity=identity, repeats=repeats, seed=seed)
    expected = oracle.repeated(distances, identity, repeats, seed)
    assert [draw.mAP for draw in metrics.draws] == pytest.approx([mean for mean, _ in expected])
    assert [draw.rank1 for draw in metrics.draws] == pytest.approx([rank1 for _, rank1 in expected])
    assert metrics.mAP == pytest.approx(np.mean([mean for mean, _ in expected]))
    assert metrics.num_skipped == identity.count("junk")
    assert metrics.num_queries == len(identity) - metrics.num_skipped - len(set(identity) - {"junk"})
    again = evaluate_repeated(distances, identity=identity, repeats=repeats, seed=seed)
    assert again.as_dict() == metrics.as_dict()
    # values per query stay meaningful: weighted by how often each was a query they give the mean
    times = np.sum([draw.relevant > 0 for draw in metrics.draws], axis=0)
    assert np.nansum(metrics.average_precision * times) / times.sum() == pytest.approx(metrics.mAP)
    assert metrics.of(np.ones(17, dtype=bool)).as_dict() == metrics.as_dict()


def test_a_part_of_the_queries_of_drawn_galleries():
    metrics = evaluate_repeated(np.abs(LINE[:, None] - LINE), identity=LINE_IDENTITY, repeats=8, seed=1)
    first_only = metrics.of(np.array([True, False, False, False]))
    assert first_only.mAP == pytest.approx(metrics.average_precision[0])
    judging = sum(drawn[0] == 1 for drawn in oracle.draws(LINE_IDENTITY, 8, seed=1))
    assert 0 < len(first_only.draws) == judging < 8
    # an image that is drawn brings its values of all galleries that judged it
    generator, means = np.random.default_rng(0), []
    for _ in range(50):
        images = generator.integers(4, size=4)
        means.append(np.mean([d.average_precision[i] for d in metrics.draws for i in images if d.relevant[i] > 0]))
    low, high = interval(replace(metrics, identity=None), "mAP", resamples=50)
    assert (low, high) == (pytest.approx(np.quantile(means, 0.025)), pytest.approx(np.quantile(means, 0.975)))
    assert low < metrics.mAP < high
    alone = evaluate_repeated(np.ones((3, 3)), identity=["a", "a", "b"], repeats=3)
    with pytest.raises(InputError, match="none of the 1 queries"):
        alone.of(np.array([False, False, True]))


@pytest.mark.parametrize(
    ("distances", "call", "message"),
    [
        (np.zeros((2, 3)), {"identity": ["a", "a"]}, "give a square matrix"),
        (np.zeros((2, 2)), {"identity": ["a", "b"]}, "needs a vehicle with two images"),
        (np.zeros((2, 2)), {"identity": ["junk", "junk"]}, "needs a vehicle with two images"),
        (np.zeros((3, 3)), {"identity": ["a", "a", ""]}, "has no identity"),
        (np.zeros((2, 2)), {"identity": ["a"]}, "identity: shape"),
        (np.zeros((2, 2)), {"identity": ["a", "a"], "repeats": 0}, "repeats is 0"),
        (np.zeros((2, 2)), {"identity": ["a", "a"], "seed": -1}, "seed is -1; give a whole number"),
    ],
)
def test_invalid_repeats_are_rejected(distances, call, message):
    with pytest.raises(InputError, match=message):
        evaluate_repeated(distances, **call)


def test_strings_and_codes_agree():
    distances = np.random.default_rng(0).random((5, 30), dtype=np.float32)
    codes = np.random.default_rng(1).integers(-2, 4, 30)
    names = ["junk" if c == -2 else "" if c == -1 else f"v{c}" for c in codes]
    cameras = np.arange(30) % 4
    integer = evaluate(
        distances, query_identity=[0, 1, 2, 3, 0], gallery_identity=codes, query_camera=[0] * 5, gallery_camera=cameras
    )
    text = evaluate(
        distances,
        query_identity=["v0", "v1", "v2", "v3", "v0"],
        gallery_identity=names,
        query_camera=["0"] * 5,
        gallery_camera=[str(c) for c in cameras],
    )
    assert integer.as_dict() == text.as_dict()


def test_interval_is_seeded_and_holds_the_mean():
    generator = np.random.default_rng(0)
    identity = generator.integers(0, 10, 200)
    metrics = evaluate(
        generator.random((40, 200)),
        query_identity=identity[:40],
        gallery_identity=identity,
        query_camera=np.zeros(40, int),
        gallery_camera=np.ones(200, int),
        top_k=10,
    )
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
        low, high = interval(
            replace(
                base, average_precision=values, average_precision_at_k=values, relevant=np.ones(60, int), identity=None
            ),
            "mAP",
            resamples=200,
        )
        held += low <= 0.4 <= high
    assert 175 <= held <= 200


@pytest.mark.parametrize(
    ("distances", "labels", "message"),
    [
        ([[0.1, np.nan]], {}, "row 1 holds NaN"),
        ([[0.1]], {}, "gallery_identity: shape"),
        ([0.1, 0.2], {}, "give \\(queries, gallery images\\)"),
        (np.zeros((1, 0)), {}, "neither of them zero"),
        ([["x", "y"]], {}, "must be numbers"),
        ([[0.1, 0.2]], {"query_identity": [-1]}, "give the column `identity`"),
        ([[0.1, 0.2]], {"query_identity": [1, 2]}, "query_identity: shape"),
        ([[0.1, 0.2]], {"gallery_camera": [0.5, 1]}, "whole numbers or names"),
        ([[0.1, 0.2]], {"gallery_identity": [5, 6]}, "none of the 1 queries"),
        ([[0.1, 0.2]], {"top_k": 0}, "top_k is 0"),
        ([[0.1, 0.2]], {"normaliser": "sum"}, "normaliser is 'sum'; use one of"),
    ],
)
def test_invalid_input_gives_one_sentence(distances, labels, message):
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

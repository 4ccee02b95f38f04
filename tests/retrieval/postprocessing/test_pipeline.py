"""Camera and tracklet steps against their formulas, and the page that puts all steps in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oracles import postprocess as oracle
from support.feature_world import world
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    CAMERA_LESS,
    MARKET,
    CameraMean,
    CameraWhitening,
    Distances,
    FeatureSet,
    PostProcessing,
    ReRanking,
    Tracklets,
    evaluate_distances,
    exclude_same_camera,
    mean_features,
    rank,
    rerank,
    subtract_camera_mean,
    tracklet_units,
    weighted_features,
    whiten_cameras,
)
from vreid.retrieval.tiles import Matrix


@pytest.fixture(scope="module")
def sides():
    return world()


def with_cameras(features, cameras):
    return replace(features, records=features.records.with_(camera=cameras))


# --- cameras ----------------------------------------------------------------------------------------------------------


def odd_cameras(query, gallery):
    """The query has a camera the gallery lacks and an unknown one; the gallery has a camera of a single image."""
    query_cameras = query.records.camera.values.copy()
    query_cameras[:3] = ["c9", "", "alone"]
    gallery_cameras = gallery.records.camera.values.copy()
    gallery_cameras[:2] = ["alone", ""]
    return with_cameras(query, query_cameras), with_cameras(gallery, gallery_cameras)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_camera_mean_equals_its_formula(sides, alpha):
    query, gallery = odd_cameras(*sides)
    for side, out in zip((query, gallery), subtract_camera_mean(query, gallery, CameraMean(alpha)), strict=True):
        expected = oracle.camera_mean(
            side.features, side.records.camera.values, gallery.features, gallery.records.camera.values, alpha
        )
        assert out.features == pytest.approx(expected, abs=1e-6)
        assert out.normalised


@pytest.mark.parametrize("ridge", [0.18, 5e-4])
def test_camera_whitening_equals_its_formula(sides, ridge):
    query, gallery = odd_cameras(*sides)
    for side, out in zip((query, gallery), whiten_cameras(query, gallery, CameraWhitening(ridge)), strict=True):
        expected = oracle.camera_whitening(
            side.features, side.records.camera.values, gallery.features, gallery.records.camera.values, ridge
        )
        assert out.features == pytest.approx(expected, abs=1e-5)


def test_camera_mean_by_hand():
    records = Records.of(path=["a", "b", "q"], camera=["1", "1", "1"])
    features = FeatureSet([[1, 0], [0, 1], [1, 0]], records, normalised=True)
    query, gallery = subtract_camera_mean(features[2:], features[:2])  # mean (1/2, 1/2)
    half = np.sqrt(0.5)
    assert gallery.features == pytest.approx(np.array([[half, -half], [-half, half]]), abs=1e-6)
    assert query.features == pytest.approx(np.array([[half, -half]]), abs=1e-6)


def test_a_feature_equal_to_its_cameras_mean_keeps_its_direction():
    records = Records.of(path=["a", "b", "c"], camera=["1", "1", "2"])
    features = FeatureSet([[0.6, 0.8], [0.6, 0.8], [1, 0]], records, normalised=True)
    for step in (subtract_camera_mean, whiten_cameras):
        _, gallery = step(features, features)
        assert gallery.features[:2] == pytest.approx(features.features[:2], abs=1e-6)


def test_same_camera_candidates_are_removed_not_pushed_back(sides):
    query, gallery = sides
    ranking = rank(exclude_same_camera(Distances.of(query, gallery)), CAMERA_LESS, top_k=len(gallery))
    camera = gallery.records.camera.values
    for row, length, own in zip(ranking.indices, ranking.lengths, query.records.camera.values, strict=True):
        assert length == np.count_nonzero(camera != own)
        assert own not in camera[row[:length]]
    # images that were taken out stay relevant under a protocol that counts them: 8 of 12 can be found at best
    plain, excluded = (
        evaluate_distances(d, CAMERA_LESS)
        for d in (Distances.of(query, gallery), exclude_same_camera(Distances.of(query, gallery)))
    )
    assert plain.relevant.tolist() == excluded.relevant.tolist() == [12] * 60
    assert excluded.average_precision.max() <= 8 / 12
    assert excluded.mINP == 0


def test_an_unknown_camera_equals_no_other():
    query, gallery = Records.of(path=["q", "r"], camera=["", "a"]), Records.of(path=["x", "y"], camera=["", "a"])
    verified = exclude_same_camera(Distances.from_matrix([[1, 2], [3, 4]], query, gallery))
    assert verified.matrix().tolist() == [[1, 2], [3, np.inf]]


def test_camera_steps_without_cameras_are_reported(sides):
    query, gallery = sides
    blind = with_cameras(gallery, [""] * len(gallery))
    for step in (CameraMean, CameraWhitening):
        name = "camera_mean" if step is CameraMean else "camera_whitening"
        with pytest.raises(InputError, match="no gallery image has a camera"):
            PostProcessing(**{name: step()}).apply(query, blind)
    with pytest.raises(InputError, match="no query image has a camera"):
        PostProcessing(exclude_same_camera=True).apply(with_cameras(query, [""] * len(query)), gallery)
    with pytest.raises(InputError, match="ridge is 0"):
        CameraWhitening(ridge=0)


# --- tracklets --------------------------------------------------------------------------------------------------------


def test_units_in_order_of_first_appearance():
    records = Records.of(path=list("abcdef"), tracklet=["z", "", "a", "z", "", "a"])
    units, count = tracklet_units(records)
    assert (units.tolist(), count) == ([0, 1, 2, 0, 3, 2], 4)


def test_invalid_tracklets_are_rejected():
    with pytest.raises(InputError, match=r"b \(image 2\): tracklet t has images of more than one camera"):
        tracklet_units(Records.of(path=["a", "b"], tracklet=["t", "t"], camera=["1", "2"]))
    with pytest.raises(InputError, match="no gallery image has a tracklet"):
        tracklet_units(Records.of(path=["a"]))


def test_mean_features_by_hand():
    features = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    units = np.array([1, 0, 1], dtype=np.int32)
    assert mean_features(features, units, 2, renormalise=False).tolist() == [[0, 1], [0.5, 0.5]]
    assert mean_features(features, units, 2)[1] == pytest.approx([np.sqrt(0.5)] * 2)


def test_weighted_features_equal_their_formula(sides, monkeypatch):
    query, gallery = sides
    units, count = tracklet_units(gallery.records)
    near = np.concatenate([query.features[:20], gallery.features[:5]])  # some tracklets have queries nearby, some none
    ours = weighted_features(near, gallery.features, units, count)
    for unit in range(count):
        expected = oracle.weighted_tracklet(near, gallery.features[units == unit])
        assert ours[unit] == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(
        "vreid.retrieval.postprocessing.tracklet_features.unit_spans",
        lambda starts, _: [(u, u + 1) for u in range(count)],
    )
    assert weighted_features(near, gallery.features, units, count) == pytest.approx(ours, abs=1e-6)


def test_inside_a_tracklet_the_frame_nearest_to_the_query_comes_first():
    query, gallery = Records.of(path=["q"]), Records.of(path=list("abcd"), tracklet=["t", "u", "t", "u"])
    units, _ = tracklet_units(gallery)
    distances = Distances(query, gallery, Matrix(np.float32([[0.5, 0.25]])), units)
    assert rank(distances, CAMERA_LESS).indices.tolist() == [[1, 3, 0, 2]]  # without frames: gallery order inside
    framed = replace(distances, frames=Matrix(np.float32([[0.9, 0.8, 0.1, 0.7]])))
    ranking = rank(framed, CAMERA_LESS)
    assert ranking.indices.tolist() == [[3, 1, 2, 0]]
    assert ranking.distances[0] == pytest.approx([0.25, 0.25 + 1e-6, 0.5, 0.5 + 1e-6], abs=1e-8)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_every_field_off_is_plain_search(sides):
    distances = PostProcessing().apply(*sides)
    assert np.array_equal(distances.matrix(), Distances.of(*sides).matrix())
    assert (distances.steps, distances.reranked, distances.transductive) == ((), False, False)
    assert PostProcessing().describe() == "plain search"


def test_raw_features_are_normalised_first(sides):
    raw = [FeatureSet(side.features * np.float32(3), side.records) for side in sides]
    assert PostProcessing().apply(*raw).matrix() == pytest.approx(Distances.of(*sides).matrix(), abs=1e-5)


def test_the_page_is_the_plain_functions_in_order(sides):
    post = PostProcessing(
        camera_mean=CameraMean(), tracklets=Tracklets(), reranking=ReRanking(7, 2, 0.6), exclude_same_camera=True
    )
    distances = post.apply(*sides)
    query, gallery = subtract_camera_mean(*sides)
    units, count = tracklet_units(gallery.records)
    matrix = rerank(query.features, mean_features(gallery.features, units, count), k1=7, k2=2, lambda_=0.6)
    unit_camera = np.array([gallery.records.camera.values[units == u][0] for u in range(count)])
    matrix[query.records.camera.values[:, None] == unit_camera] = np.inf
    assert np.array_equal(distances.matrix(), matrix)
    assert distances.steps == ("camera-mean", "tracklets=mean", "rerank=7:2:0.6", "other-cameras")
    assert (distances.num_units, distances.reranked, distances.transductive) == (60, True, True)
    assert "60 units of 240 images" in repr(distances)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ({"camera_mean": CameraMean()}, "fitted on the gallery"),
        ({"camera_whitening": CameraWhitening()}, "fitted on the gallery"),
        ({"tracklets": Tracklets("weighted")}, "all queries together"),
        ({"reranking": ReRanking()}, "neighbour lists"),
        ({"tracklets": Tracklets()}, None),
        ({"tracklets": Tracklets("per-query")}, None),
        ({"exclude_same_camera": True}, None),
    ],
)
def test_transductive_and_its_reason(sides, field, reason):
    post = PostProcessing(**field)
    assert post.transductive == (reason is not None)
    assert reason is None or reason in post.transductive_reasons[0]
    assert post.apply(*sides).transductive == post.transductive
    assert post.apply(*sides).steps == post.steps != ()


def test_a_query_ranks_the_same_alone_where_the_steps_are_not_transductive(sides):
    query, gallery = sides
    for steps in ("other-cameras", "tracklets", "tracklets=per-query"):
        post = PostProcessing.parse(steps)
        together = post.apply(query, gallery).matrix()[7]
        assert post.apply(query[7], gallery).matrix()[0] == pytest.approx(together, abs=1e-6)


def test_contradicting_steps_are_rejected():
    with pytest.raises(InputError, match="disable one of them"):
        PostProcessing(camera_mean=CameraMean(), camera_whitening=CameraWhitening())
    with pytest.raises(InputError, match="cannot be re-ranked or expanded"):
        PostProcessing(tracklets=Tracklets("per-query"), reranking=ReRanking())
    with pytest.raises(InputError, match="feature is 'median'"):
        Tracklets("median")


def test_one_camera_only(sides):
    query, gallery = (with_cameras(side, ["c"] * len(side)) for side in sides)
    assert np.isfinite(PostProcessing(camera_mean=CameraMean()).apply(query, gallery).matrix()).all()
    everything_gone = PostProcessing(exclude_same_camera=True).apply(query, gallery)
    assert rank(everything_gone, CAMERA_LESS).lengths.tolist() == [0] * len(query)
    with pytest.raises(InputError, match="none of the 60 queries"):
        evaluate_distances(everything_gone, MARKET)


def test_whitening_is_finite_for_any_ridge(sides):
    for ridge in (1e-9, 1e6):
        assert np.isfinite(PostProcessing(camera_whitening=CameraWhitening(ridge)).apply(*sides).matrix()).all()

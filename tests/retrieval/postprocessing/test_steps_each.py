"""Steps one by one against hand-worked cases and slow oracles: tracklets per query, expansion, scene groups, bias."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import postprocess as oracle
from oracles import reranking
from support.feature_world import world
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    CAMERA_LESS,
    MARKET,
    Bias,
    CameraWhitening,
    Distances,
    FeatureSet,
    PostProcessing,
    ReRanking,
    SceneGroups,
    Tracklets,
    ablation,
    augment_gallery,
    evaluate_retrieval,
    exclude_other_scenes,
    expand_queries,
    rank,
    weighted_features,
)
from vreid.retrieval.postprocessing.jaccard import Encoding
from vreid.retrieval.postprocessing.reranking import ReRanked, rerank_with_biases
from vreid.retrieval.postprocessing.tracklet_features import PerQuery, tracklet_units

SIDES = world(vehicles=8, frames=4, dimensions=12)


def gaussian(rows, dimensions, seed=0):
    values = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def matrix(source):
    return np.concatenate([tile for _, tile in source.tiles()])


# --- tracklets, weighted for each query -------------------------------------------------------------------------------


def test_per_query_by_hand():
    query, frames = np.float32([[1, 0]]), np.float32([[1, 0], [0, 1]])
    # squared distances 0 and 2, weights 1 / 0.5 and 1 / 2.5, so 5/6 and 1/6: feature (5/6, 1/6), distance 1/36 + 1/36
    found = PerQuery(query, frames, np.int32([0, 0]), 1, epsilon=0.5)
    assert matrix(found) == pytest.approx(np.array([[2 / 36]]), abs=1e-7)
    unit = replace(found, renormalise=True)
    assert matrix(unit) == pytest.approx(np.array([[2 - 2 * 5 / np.sqrt(26)]]), abs=1e-6)


@pytest.mark.parametrize("norm", ["unit", "raw"])
def test_per_query_is_the_weighted_feature_for_a_query_set_of_one(norm):
    query, gallery = SIDES
    found = PostProcessing(tracklets=Tracklets("per-query", norm)).apply(query, gallery).matrix()
    units, count = tracklet_units(gallery.records)
    for row, one in enumerate(query.features[:5]):
        alone = weighted_features(one[None], gallery.features, units, count, renormalise=norm == "unit")
        assert found[row] == pytest.approx(((one - alone) ** 2).sum(axis=1), abs=1e-5)
        for unit in range(0, count, 5):
            frames = gallery.features[units == unit]
            expected = oracle.per_query_distance(one, frames, renormalise=norm == "unit")
            assert found[row, unit] == pytest.approx(expected, abs=1e-5)


def test_constants_of_the_weights_are_used():
    query, gallery = SIDES
    units, count = tracklet_units(gallery.records)
    chosen = Tracklets("weighted", "raw", threshold=1.2, epsilon=0.3)
    expected = [
        oracle.weighted_tracklet(query.features, gallery.features[units == unit], threshold=1.2, epsilon=0.3)
        for unit in range(count)
    ]
    distances = PostProcessing(tracklets=chosen).apply(query, gallery).matrix()
    squared = ((query.features[:, None].astype(np.float64) - np.array(expected)) ** 2).sum(axis=2)
    assert distances == pytest.approx(squared, abs=1e-5)


# --- expansion --------------------------------------------------------------------------------------------------------


def test_expansion_by_hand():
    gallery = [[0.8, 0.6], [0, 1], [-1, 0]]
    half = np.array([1.8, 0.6]) / np.sqrt(3.6)
    assert expand_queries([[2, 0]], gallery, neighbours=1, alpha=0) == pytest.approx(half[None], abs=1e-6)
    far = np.array([1 + 0.8 * 0.64, 0.6 * 0.64])  # cos 0.8, squared; the other two have no positive cosine
    expected = far / np.linalg.norm(far)
    assert expand_queries([[2, 0]], gallery, neighbours=9, alpha=2) == pytest.approx(expected[None], abs=1e-6)
    # the gallery's first is mixed with its nearest other, (0, 1): cos 0.6
    expected = np.array([0.8, 0.6 + 0.6]) / np.linalg.norm([0.8, 1.2])
    assert augment_gallery(gallery, neighbours=1, alpha=1)[0] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 5), st.sampled_from([0.0, 1.0, 3.0]), st.integers(0, 999))
def test_expansion_equals_its_formula(queries, gallery, neighbours, alpha, seed):
    query, others = gaussian(queries, 4, seed), gaussian(gallery, 4, seed + 1)
    expected = [oracle.expanded(one, others, neighbours, alpha) for one in query]
    found = expand_queries(query, others, neighbours=neighbours, alpha=alpha)
    assert found == pytest.approx(np.array(expected), abs=1e-3)
    expected = [
        oracle.expanded(one, np.delete(others, row, axis=0), neighbours, alpha) for row, one in enumerate(others)
    ]
    assert augment_gallery(others, neighbours=neighbours, alpha=alpha) == pytest.approx(np.array(expected), abs=1e-3)


def test_equal_features_do_not_count_themselves_twice():
    same = np.float32([[1, 0]] * 6 + [[0, 1]])
    out = augment_gallery(same, neighbours=2, alpha=1)
    assert out == pytest.approx(same, abs=1e-6)


def test_expansion_is_of_units_and_comes_before_re_ranking():
    query, gallery = SIDES
    tracks = PostProcessing(tracklets=Tracklets()).apply(query, gallery)
    units = tracks.source.unit_UD
    steps = "tracklets, gallery-expansion=2:1, query-expansion=3:0"
    found = PostProcessing.parse(steps).apply(query, gallery)
    augmented = augment_gallery(units, neighbours=2, alpha=1)
    expanded = expand_queries(query.features, augmented, neighbours=3, alpha=0)
    assert np.array_equal(found.source.unit_UD, augmented)
    assert np.array_equal(found.source.query_QD, expanded)
    reranked = PostProcessing.parse(f"{steps}, rerank=5:2:0.4").apply(query, gallery).matrix()
    assert reranked == pytest.approx(np.array(reranking.rerank(expanded, augmented, 5, 2, 0.4)), abs=1e-5)


@pytest.mark.parametrize(
    ("query", "message"),
    [([[0, 0]], "norm 0"), ([[np.nan, 1]], "norm nan"), ([[1, 2, 3]], "dimensions"), ([], r"shape is \(0,\)")],
)
def test_expansion_of_bad_features(query, message):
    with pytest.raises(InputError, match=message):
        expand_queries(query, [[1, 0], [0, 1]])


# --- scene groups -----------------------------------------------------------------------------------------------------


def test_scene_groups_by_hand():
    query = Records.of(path=["q", "r", "s"], camera=["a", "c", "x"])
    gallery = Records.of(path=list("uvwz"), camera=["b", "c", "x", ""])
    plain = Distances.from_matrix(np.arange(12).reshape(3, 4), query, gallery)
    found = exclude_other_scenes(plain, SceneGroups((("a", "b"), ("c",))))
    out = np.inf  # x and the unknown camera are of no group: nothing of theirs is removed
    assert found.matrix().tolist() == [[0, out, 2, 3], [out, 5, 6, 7], [8, 9, 10, 11]]
    assert rank(found, CAMERA_LESS).lengths.tolist() == [3, 3, 4]


def test_scenes_of_the_column_and_of_tracklets():
    query = Records.of(path=["q"], scene=["s1"])
    gallery = Records.of(path=list("abcd"), scene=["s1", "s2", "s2", ""], tracklet=["t", "u", "u", ""])
    units = tracklet_units(gallery)[0]
    distances = replace(Distances.from_matrix([[1, 2, 3]], query, gallery[:3]), gallery=gallery, unit_of_image=units)
    assert exclude_other_scenes(distances).matrix().tolist() == [[1, np.inf, 3]]
    torn = gallery.with_(scene=["s1", "s2", "s1", ""])
    with pytest.raises(InputError, match=r"c \(image 3\): its tracklet has images of two scenes"):
        exclude_other_scenes(replace(distances, gallery=torn))


def test_scene_groups_from_labels_join_cameras_over_shared_vehicles():
    records = Records.of(
        path=[str(i) for i in range(8)],
        identity=["1", "1", "2", "2", "3", "3", "4", ""],
        camera=["a", "b", "b", "c", "d", "e", "f", "a"],
    )
    assert SceneGroups.from_labels(records).cameras == (("a", "b", "c"), ("d", "e"), ("f",), ("*",))
    chained = Records.of(path=list("uvwxyz"), identity=["1", "1", "2", "2", "3", "3"], camera=list("abcdbc"))
    joined = Records.concat([chained, Records.of(path=["o"], identity=["9"], camera=["e"])])
    assert SceneGroups.from_labels(joined).cameras == (("a", "b", "c", "d"), ("e",), ("*",))
    assert SceneGroups.from_labels(records[:4]).cameras == (("a", "b", "c"), ("*",))  # one group is an answer
    with pytest.raises(InputError, match="name the groups, or give the column `scene`"):
        SceneGroups.from_labels(records[7:])


# --- bias -------------------------------------------------------------------------------------------------------------


def model_of(side, seed, dimensions=5):
    """Features of another model of the same images."""
    return FeatureSet(gaussian(len(side), dimensions, seed), side.records)


BIAS = model_of(SIDES[0], 1), model_of(SIDES[1], 2)


def test_bias_correction_by_hand():
    query, gallery = Records.of(path=["q"]), Records.of(path=["same", "other"])
    looks = FeatureSet([[1, 0]], query), FeatureSet([[0.6, 0.8], [0.6, -0.8]], gallery)  # both at 0.8
    places = FeatureSet([[1, 0]], query), FeatureSet([[1, 0], [0, 1]], gallery)  # at 0 and 2
    for when in ("after", "before"):
        post = PostProcessing(camera_bias=Bias(0.1, when, places))
        assert post.apply(*looks).matrix() == pytest.approx(np.array([[0.8, 0.6]]), abs=1e-6)


def test_bias_after_re_ranking_takes_the_same_path_without_bias():
    steps = PostProcessing.parse("camera-whitening=0.18:0.5, tracklets=weighted, rerank=5:2:0.4, other-cameras")
    biased = replace(steps, camera_bias=Bias(0.1, "after", BIAS), orientation_bias=Bias(0.05, "after", SIDES))
    plain, camera, own = (steps.apply(*sides).matrix() for sides in (SIDES, BIAS, SIDES))
    removed = np.isinf(plain)
    expected = np.where(removed, np.inf, plain - 0.1 * np.where(removed, 0, camera) - 0.05 * np.where(removed, 0, own))
    assert biased.apply(*SIDES).matrix() == pytest.approx(expected, abs=1e-6)


def test_biases_of_both_times_do_not_meet():
    """What is taken off after re-ranking was itself re-ranked without any bias."""
    steps = PostProcessing.parse("rerank=5:2:0.4")
    third = model_of(SIDES[0], 3), model_of(SIDES[1], 4)
    early, late = Bias(0.3, "before", third), Bias(0.2, "after", BIAS)
    both = replace(steps, camera_bias=late, orientation_bias=early).apply(*SIDES).matrix()
    expected = replace(steps, orientation_bias=early).apply(*SIDES).matrix() - 0.2 * steps.apply(*BIAS).matrix()
    assert both == pytest.approx(expected, abs=1e-6)


def test_rows_of_an_ablation_keep_their_biases_apart():
    post = replace(
        PostProcessing.parse("rerank=5:2:0.4, tracklets"),
        camera_bias=Bias(0.5, "before", BIAS),
        orientation_bias=Bias(0.5, "after", BIAS),
    )
    for row in ablation(post, *SIDES, MARKET):
        assert row.metrics.mAP == evaluate_retrieval(*SIDES, row.post, MARKET).mAP, row.name


@dataclass(frozen=True, eq=False)
class Pieces:
    """A matrix in tiles of a few rows."""

    values: np.ndarray
    rows: int

    @property
    def shape(self):
        return self.values.shape

    def tiles(self):
        for start in range(0, len(self.values), self.rows):
            yield start, self.values[start : start + self.rows]


@pytest.mark.parametrize(("rows", "shared"), [(3, 20), (5, 4), (20, 3), (4, 4), (7, 5)])
def test_re_ranked_tiles_do_not_depend_on_how_their_parts_are_cut(monkeypatch, rows, shared):
    query, gallery = gaussian(20, 4), gaussian(40, 4, 1)
    whole = ReRanked.of(query, gallery, ReRanking(7, 3, 0.4))
    expected, original = matrix(whole), matrix(whole.original)
    parts = list(whole.encoding.jaccard(20, first_column=20))
    row, column, jaccard = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))

    def pieces(self, stop, *, first_column):
        for start in range(0, stop, shared):
            inside = (row >= start) & (row < start + shared)
            yield range(start, min(start + shared, stop)), row[inside], column[inside], jaccard[inside]

    monkeypatch.setattr(Encoding, "jaccard", pieces)
    assert np.array_equal(matrix(replace(whole, original=Pieces(original, rows))), expected)


def squared(points):
    return np.array(reranking.squared_distances(points))


@pytest.mark.parametrize("weights", [(0.1, 0.1), (0.4, 0.0), (0.9, 0.3)])
def test_bias_before_re_ranking_changes_all_pairs(monkeypatch, weights):
    """The oracle of re-ranking, given the distances that are left; some of them are below 0."""
    models = [(gaussian(6, d, seed), gaussian(20, d, seed + 1)) for d, seed in ((8, 0), (3, 5), (4, 9))]
    left = squared(np.concatenate(models[0]))
    for weight, sides in zip(weights, models[1:], strict=True):
        left -= weight * squared(np.concatenate(sides))
    assert weights[0] < 0.9 or left.min() < -0.1
    monkeypatch.setattr(reranking, "squared_distances", lambda _: left.tolist())
    expected = np.array(reranking.rerank(*models[0], 5, 3, 0.4))
    found = rerank_with_biases(models[0], list(zip(weights, models[1:], strict=True)), ReRanking(5, 3, 0.4))
    assert matrix(found) == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(matrix(found), matrix(found))


def test_bias_before_re_ranking_of_tracklets_is_of_tracklet_features():
    steps = PostProcessing.parse("tracklets, rerank=5:2:0.4")
    biased = replace(steps, camera_bias=Bias(0.2, "before", BIAS)).apply(*SIDES)
    units = [PostProcessing(tracklets=Tracklets()).apply(*sides).source for sides in (SIDES, BIAS)]
    sides = [(unit.query_QD, unit.unit_UD) for unit in units]
    expected = rerank_with_biases(sides[0], [(0.2, sides[1])], ReRanking(5, 2, 0.4))
    assert np.array_equal(biased.matrix(), matrix(expected))


def test_bias_is_read_from_a_folder_and_put_in_order(tmp_path):
    for name, side in zip(("query", "gallery"), BIAS, strict=True):
        side[np.arange(len(side))[::-1]].save(tmp_path / f"{name}.safetensors")
    post = PostProcessing.parse(f"camera-bias=0.1:after:{tmp_path}")
    expected = PostProcessing(camera_bias=Bias(0.1, "after", BIAS)).apply(*SIDES).matrix()
    assert post.apply(*SIDES).matrix() == pytest.approx(expected, abs=1e-6)
    few = SIDES[1][np.arange(5)]
    assert post.apply(SIDES[0], few).matrix() == pytest.approx(expected[:, :5], abs=1e-6)
    stranger = FeatureSet(few.features[:1], Records.of(path=["unseen.jpg"]))
    with pytest.raises(InputError, match=r"the gallery feature of unseen\.jpg is missing"):
        post.apply(SIDES[0], FeatureSet(stranger.features, stranger.records, normalised=True))
    with pytest.raises(InputError, match=r"nowhere.query\.safetensors"):
        PostProcessing.parse("camera-bias=0.1:after:nowhere").apply(*SIDES)


def test_biases_of_other_lengths_are_rejected():
    with pytest.raises(InputError, match="features of a bias are of other images"):
        rerank_with_biases((np.eye(3), np.eye(3)), [(0.1, (np.eye(3)[:2], np.eye(3)))], ReRanking(2, 1, 0.3))


def test_a_camera_with_one_image_has_its_mean_taken_off_only():
    """n_c below 2: the whole gallery's mean, no whitening; the query's camera is unknown to the gallery."""
    gallery = FeatureSet(gaussian(6, 3), Records.of(path=list("abcdef"), camera=["1"] * 5 + ["2"]), normalised=True)
    query = FeatureSet(gaussian(1, 3, 7), Records.of(path=["q"], camera=["9"]), normalised=True)
    found = PostProcessing(camera_whitening=CameraWhitening()).apply(query, gallery).source
    mean = gallery.features.mean(axis=0)
    for feature, out in ((gallery.features[5], found.unit_UD[5]), (query.features[0], found.query_QD[0])):
        assert out == pytest.approx(oracle.unit(feature - mean), abs=1e-6)

"""Feature sets, distances and rankings: values that are checked, saved, loaded and never depend on block sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    CAMERA_LESS,
    CROSS_CAMERA,
    MARKET,
    Distances,
    FeatureSet,
    PostProcessing,
    Ranking,
    ReRanking,
    Tracklets,
    evaluate_distances,
    exclude_same_camera,
    nearest,
    rank,
)
from vreid.retrieval.nearest import smallest
from vreid.retrieval.ranking import nearest_of_row
from vreid.retrieval.tiles import Matrix

ANY = replace(MARKET, name="any", exclude="nothing")


def records(count, *, prefix="", seed=0):
    generator = np.random.default_rng(seed)
    identity, camera = generator.integers(0, 5, count), generator.integers(0, 3, count)
    return Records.of(
        path=[f"{prefix}{i}.jpg" for i in range(count)],
        identity=[f"v{i}" for i in identity],
        camera=[f"c{c}" for c in camera],
        tracklet=[f"t{i}-{c}" for i, c in zip(identity, camera, strict=True)],
    )


def feature_set(count, dimensions=8, *, prefix="", seed=0):
    values = np.random.default_rng(seed).normal(size=(count, dimensions))
    return FeatureSet(values, records(count, prefix=prefix, seed=seed), model="abc").normalise()


@pytest.fixture(scope="module")
def sides():
    return feature_set(30, prefix="q", seed=1), feature_set(700, prefix="g", seed=2)


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[1, 2], [np.nan, 0]], {}, r"q1.jpg \(row 2\): the feature contains NaN"),
        ([[np.inf, 2], [1, 0]], {}, r"q0.jpg \(row 1\): the feature contains NaN or infinity"),
        ([[1, 2]], {}, "1 features for 2 records"),
        ([1, 2], {}, "not \\(images, dimensions\\)"),
        (np.zeros((2, 0)), {}, "not \\(images, dimensions\\)"),
        ([["x", "y"], ["z", "w"]], {}, "must be numbers"),
        ([[1, 0], [2, 0]], {"normalised": True}, r"q1.jpg \(row 2\).*does not have norm 1"),
    ],
)
def test_invalid_features_are_rejected_with_the_image(values, options, message):
    with pytest.raises(InputError, match=message):
        FeatureSet(values, records(2, prefix="q"), **options)


def test_a_feature_without_direction_cannot_be_normalised():
    with pytest.raises(InputError, match=r"q1.jpg \(row 2\).*cannot be normalised"):
        FeatureSet([[1, 0], [0, 0]], records(2, prefix="q")).normalise()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e15])
def test_norms_survive_tiny_and_huge_features(scale):
    normalised = FeatureSet(np.array([[3, 4]]) * scale, records(1)).normalise()
    assert normalised.features[0] == pytest.approx([0.6, 0.8], abs=1e-6)


def test_feature_set_round_trip_index_and_concat(tmp_path, sides):
    query, gallery = sides
    gallery.save(tmp_path / "gallery.safetensors")
    again = FeatureSet.load(tmp_path / "gallery.safetensors")
    assert np.array_equal(again.features, gallery.features)
    assert again.records == gallery.records
    assert (again.normalised, again.views, again.model) == (True, ("original",), "abc")
    first = (tmp_path / "gallery.safetensors").read_bytes()
    again.save(tmp_path / "gallery.safetensors")
    assert (tmp_path / "gallery.safetensors").read_bytes() == first
    both = FeatureSet.concat([query, gallery])
    assert both[len(query) :].records == gallery.records
    assert both[3].records.path.tolist() == ["q3.jpg"]
    assert "730 x 8, normalised, views original, model abc; Records: 730 images" in repr(both)
    with pytest.raises(InputError, match=r"model is 'abc' in part 1 but 'other' in part 2"):
        FeatureSet.concat([query, replace(gallery, model="other")])
    with pytest.raises(InputError, match="there are no parts"):
        FeatureSet.concat([])


def test_files_of_another_kind_are_rejected(tmp_path, sides):
    query, gallery = sides
    path = tmp_path / "some.safetensors"
    Distances.of(query, gallery).save(path)
    with pytest.raises(InputError, match="holds distances, not features"):
        FeatureSet.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        Distances.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        Ranking.load(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match=r"end in \.safetensors"):
        query.save(tmp_path / "features.npy")


# --- distances --------------------------------------------------------------------------------------------------------


def test_distances_are_squared_euclidean(sides):
    query, gallery = sides
    direct = ((query.features[:, None].astype(np.float64) - gallery.features) ** 2).sum(axis=2)
    assert Distances.of(query, gallery).matrix() == pytest.approx(direct, abs=1e-6)
    scaled = [FeatureSet(side.features * 3, side.records) for side in (query, gallery)]
    assert Distances.of(*scaled).matrix() == pytest.approx(9 * direct, rel=1e-5, abs=1e-4)


def test_distances_are_non_negative_and_small_for_equal_images(sides):
    query, _ = sides
    matrix = Distances.of(query, query).matrix()
    assert matrix.min() >= 0
    assert np.diag(matrix).max() < 1e-6


@settings(max_examples=25)
@given(rows=st.integers(1, 1100), queries=st.sampled_from([1, 511, 512, 513, 600]))
def test_block_size_never_changes_a_bit(rows, queries):
    query, gallery = feature_set(queries, 33, prefix="q", seed=5), feature_set(97, 33, prefix="g", seed=6)
    plain = Distances.of(query, gallery)
    for distances in (plain, exclude_same_camera(plain), PostProcessing(tracklets=Tracklets()).apply(query, gallery)):
        pieces = list(distances.blocks(rows))
        assert [start for start, _ in pieces] == list(range(0, queries, rows))
        assert np.array_equal(np.concatenate([piece for _, piece in pieces]), distances.matrix())
        whole = np.concatenate([piece for _, piece in distances.image_blocks(queries)])
        assert np.array_equal(np.concatenate([piece for _, piece in distances.image_blocks(rows)]), whole)


@pytest.mark.parametrize("tracklets", [None, Tracklets()])
def test_distances_round_trip(tmp_path, sides, tracklets):
    post = PostProcessing(tracklets=tracklets, reranking=ReRanking(5, 2), exclude_same_camera=True)
    distances = post.apply(*sides)
    distances.save(tmp_path / "d.safetensors")
    again = Distances.load(tmp_path / "d.safetensors")
    assert np.array_equal(again.matrix(), distances.matrix())
    assert (again.steps, again.reranked, again.transductive) == (distances.steps, True, True)
    assert evaluate_distances(again, MARKET).as_dict() == evaluate_distances(distances, MARKET).as_dict()
    assert np.array_equal(rank(again, MARKET, 20).indices, rank(distances, MARKET, 20).indices)


def test_incomparable_sides_are_rejected(sides):
    query, gallery = sides
    for other, message in (
        (feature_set(5, 9), "dimensions is 8 for the query but 9"),
        (replace(gallery, model="other"), "model is 'abc' for the query but 'other'"),
        (FeatureSet(gallery.features * 2, gallery.records, model="abc"), "normalised is True for the query"),
        (gallery[:0], "the gallery holds no images"),
    ):
        with pytest.raises(InputError, match=message):
            Distances.of(query, other)
    with pytest.raises(InputError, match="the query holds no images"):
        PostProcessing().apply(query[:0], gallery)
    huge = [FeatureSet(side.features * np.float32(1e19), side.records) for side in (query, gallery)]
    with pytest.raises(InputError, match="too large"):
        Distances.of(*huge).matrix()


def test_units_must_fit_the_gallery(sides):
    query, gallery = sides
    matrix = Matrix(np.zeros((30, 2), dtype=np.float32))
    for units, message in (
        (np.zeros(5), "shape"),
        (np.zeros(700), "needs at least one"),
        (np.full(700, 2), "needs"),
        (np.arange(700) % 2 - 1, "needs"),
    ):
        with pytest.raises(InputError, match=message):
            Distances(query.records, gallery.records, matrix, units)
    with pytest.raises(InputError, match="30 rows for 700 queries"):
        Distances(gallery.records, gallery.records, matrix, np.arange(700) % 2)
    with pytest.raises(InputError, match=r"shape \(30, 2\) for 30 queries x 700 images"):
        Distances.from_matrix(matrix.values, query.records, gallery.records)
    with pytest.raises(InputError, match="rows is 0"):
        next(Distances.of(query, gallery).blocks(0))


# --- ranking ----------------------------------------------------------------------------------------------------------

small_rows = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 20)), elements=st.sampled_from([0, 0.5, 1, 2, np.inf])
)


@settings(max_examples=100)
@given(small_rows, st.integers(1, 25))
def test_ranking_equals_a_stable_sort(matrix, top_k):
    queries, gallery = matrix.shape
    distances = Distances.from_matrix(matrix, records(queries, prefix="q"), records(gallery, prefix="g"))
    ranking = rank(distances, ANY, top_k)
    for row, found, values in zip(matrix, ranking.indices, ranking.distances, strict=True):
        order = [g for g in np.argsort(row, kind="stable") if row[g] < np.inf][:top_k]
        padding = min(top_k, gallery) - len(order)
        assert found.tolist() == order + [-1] * padding
        assert values.tolist() == row[order].tolist() + [np.inf] * padding
    assert ranking.lengths.tolist() == [min(top_k, int(np.isfinite(row).sum())) for row in matrix]


@settings(max_examples=30)
@given(st.permutations(range(12)), st.integers(0, 1000))
def test_permuting_the_gallery_permutes_the_ranking(order, seed):
    # small whole numbers, so that matrix products are exact wherever a column stands; no two distances are equal
    generator = np.random.default_rng(seed)
    query = FeatureSet([[100.0, 1.0]], records(1, prefix="q"))
    values = np.stack([generator.permutation(12), np.zeros(12)], axis=1)
    gallery = FeatureSet(values, records(12, prefix="g"))
    straight = rank(Distances.of(query, gallery), ANY).indices[0]
    permuted = rank(Distances.of(query, gallery[list(order)]), ANY).indices[0]
    assert np.array(order)[permuted].tolist() == straight.tolist()


@settings(max_examples=20)
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_scaling_features_does_not_change_cosine_ranking(scale, seed):
    query, gallery = feature_set(3, prefix="q", seed=seed), feature_set(40, prefix="g", seed=seed + 1)
    scaled = [FeatureSet(side.features * np.float32(scale), side.records, model="abc") for side in (query, gallery)]
    plain = rank(PostProcessing().apply(query, gallery), ANY)
    other = rank(PostProcessing().apply(*scaled), ANY)
    assert other.distances == pytest.approx(plain.distances, abs=1e-5)
    moved = plain.indices != other.indices  # only pictures at equal distance (to rounding) may change places
    gaps = np.abs(plain.distances - np.take_along_axis(Distances.of(query, gallery).matrix(), other.indices, axis=1))
    assert gaps[moved].max(initial=0) < 1e-5


def test_a_ranking_follows_its_protocol_and_marks_hits(sides, tmp_path):
    _, gallery = sides
    distances = Distances.of(gallery, gallery)
    ranking = rank(distances, CROSS_CAMERA, top_k=15)
    camera, identity = gallery.records.camera.values, gallery.records.identity.values
    assert not (camera[ranking.indices] == camera[:, None]).any()
    assert np.array_equal(ranking.hits(), identity[ranking.indices] == identity[:, None])
    assert rank(distances, CAMERA_LESS).indices.shape == (700, 100)
    assert not (rank(distances, CAMERA_LESS).indices == np.arange(700)[:, None]).any()
    ranking.save(tmp_path / "r.safetensors")
    again = Ranking.load(tmp_path / "r.safetensors")
    assert np.array_equal(again.indices, ranking.indices)
    assert repr(again) == repr(ranking)
    assert "first 15 of 700 images; protocol cross-camera" in repr(ranking)
    with pytest.raises(InputError, match="top_k is 0"):
        rank(distances, MARKET, 0)


def test_metrics_and_ranking_tell_the_same_story(sides):
    query, gallery = sides
    distances = PostProcessing(tracklets=Tracklets()).apply(query, gallery)
    ranking, metrics = rank(distances, MARKET), evaluate_distances(distances, MARKET)
    first = [int(np.argmax(row == 1)) + 1 for row in ranking.hits()]
    assert metrics.first_hit.tolist() == first


def test_hits_are_unknown_without_labels():
    query = Records.of(path=["a", "b"], identity=["1", ""])
    gallery = Records.of(path=["c", "d", "e", "f"], identity=["1", "2", "", "junk"])
    ranking = rank(Distances.from_matrix([[1, 2, 3, 4], [1, 2, 3, 4]], query, gallery), MARKET)
    assert ranking.hits().tolist() == [[1, 0, -1, -1], [-1, -1, -1, -1]]


def test_nan_never_ranks():
    with pytest.raises(InputError, match="NaN"):
        nearest_of_row(np.array([1, np.nan], dtype=np.float32), 1)


def test_rankings_with_indices_outside_the_gallery_are_rejected():
    one = records(1)
    for indices, shape in (([[1]], (1, 1)), ([[-2]], (1, 1)), ([[0]], (1, 2))):
        with pytest.raises(InputError, match="Ranking"):
            Ranking(one, one, np.array(indices, dtype=np.int32), np.zeros(shape, dtype=np.float32), "any")


# --- neighbours -------------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(small_rows, st.integers(1, 25))
def test_smallest_equals_a_stable_sort(tile, k):
    values, columns = smallest(tile, k)
    order = np.argsort(tile, axis=1, kind="stable")[:, :k]
    assert np.array_equal(columns, order)
    assert np.array_equal(values, np.take_along_axis(tile, order, axis=1))


def test_nearest_puts_equal_distances_in_gallery_order():
    # whole numbers: products are exact, so equal features are at exactly equal distances
    distances, indices = nearest([[0, 0], [3, 0]], [[3, 0], [0, 1], [3, 0], [0, -1]], k=9)
    assert indices.tolist() == [[1, 3, 0, 2], [0, 2, 1, 3]]
    assert distances.tolist() == [[1, 1, 9, 9], [0, 0, 10, 10]]


def test_nearest_rejects_incomparable_features(sides):
    query, gallery = sides
    with pytest.raises(InputError, match="k is 0"):
        nearest(query.features, gallery.features, 0)
    with pytest.raises(InputError, match="8 dimensions, gallery features 9"):
        nearest(query.features, np.zeros((4, 9)), 1)
    with pytest.raises(InputError, match="give at least one of each"):
        nearest(query.features, np.zeros((0, 8)), 1)

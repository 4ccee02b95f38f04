"""Camera means of a store: fitted, shrunk, refitted on growth, repeated after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.simulated_site import D, simulated_site
from vreid.store.centering import MEAN, decode_mean, global_mean, refit_means, subtract_mean, tracklet_vector
from vreid.store.engines import open_vectors
from vreid.store.interface import Filter, TrackletBatch, VectorStore


@pytest.fixture
def vectors(tmp_path: Path) -> VectorStore:
    store = open_vectors(tmp_path / "store", dimensions=D, model="m", create=True)
    store.upsert(simulated_site().batch)
    return store


def everything(vectors: VectorStore) -> TrackletBatch:
    (batch,) = vectors.scan(limit=10_000, crops=True)
    return batch


def expected(batch: TrackletBatch, vectors: VectorStore) -> NDArray[np.float32]:
    rows = []
    for camera, crops in zip(batch.camera, batch.crops or (), strict=True):
        features = np.stack([crop.vector for crop in crops])
        weights = np.array([crop.quality for crop in crops])
        rows.append(tracklet_vector(features, weights, decode_mean(vectors.get_document(MEAN + camera))))
    return np.stack(rows)


def test_every_vector_is_its_crops_mean_minus_the_mean_of_its_camera(vectors: VectorStore) -> None:
    assert refit_means(vectors) == ("c0", "c1", "c2", "c3")
    batch = everything(vectors)
    np.testing.assert_allclose(batch.vector, expected(batch, vectors), atol=1e-5)
    means = {key.removeprefix(MEAN): decode_mean(value) for key, value in vectors.documents(MEAN).items()}
    np.testing.assert_allclose(global_mean(means), np.mean(list(means.values()), axis=0))


def test_centring_finds_more_vehicles_in_other_cameras(vectors: VectorStore) -> None:
    site = simulated_site()

    def found() -> float:
        batch = everything(vectors)
        similarity = batch.vector @ batch.vector.T
        similarity[batch.camera[:, None] == batch.camera[None]] = -2
        return float((site.vehicle[similarity.argmax(axis=1)] == site.vehicle).mean())

    before = found()
    refit_means(vectors)
    assert found() > before + 0.1


def test_a_second_fit_changes_nothing_and_growth_by_more_than_half_fits_again(vectors: VectorStore) -> None:
    refit_means(vectors)
    before = everything(vectors).vector
    assert refit_means(vectors) == ()
    np.testing.assert_array_equal(everything(vectors).vector, before)
    vectors.delete(where=Filter(cameras=frozenset({"c1"})))
    assert refit_means(vectors) == ()
    assert MEAN + "c1" not in vectors.documents(MEAN)
    vectors.upsert(simulated_site().batch)
    assert refit_means(vectors) == ("c1",)


@pytest.mark.parametrize("writes", range(6))
def test_a_fit_that_was_killed_is_repeated(vectors: VectorStore, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = writes

    def limited(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("put_document", "replace_vectors"):
            patch.setattr(vectors, name, limited(getattr(vectors, name)))
        with pytest.raises(KeyboardInterrupt):
            refit_means(vectors, limit=20)
    assert refit_means(vectors, limit=20)
    batch = everything(vectors)
    np.testing.assert_allclose(batch.vector, expected(batch, vectors), atol=1e-5)


def test_few_tracklets_hardly_move_a_camera_from_the_mean_of_all(vectors: VectorStore) -> None:
    batch = simulated_site(seed=5).batch
    one = np.flatnonzero(batch.camera == "c0")[:1]
    columns = {name: getattr(batch, name)[one] for name in ("vector", "start", "end", "color", "vehicle_type")}
    crops = [(batch.crops or [])[row] for row in one]
    new = TrackletBatch(np.array(["n/1"], object), camera=np.array(["n"], object), facts=[{}], crops=crops, **columns)
    vectors.upsert(new)
    refit_means(vectors)
    mean = decode_mean(vectors.get_document(MEAN + "n"))
    others = np.mean([decode_mean(vectors.get_document(f"{MEAN}c{number}")) for number in range(4)], axis=0)
    assert np.linalg.norm(mean - others) < 0.5 * np.linalg.norm(new.vector[0] - others)


def test_a_feature_that_equals_the_mean_keeps_its_direction() -> None:
    feature = np.array([[0.6, 0.8]], dtype=np.float32)
    np.testing.assert_array_equal(subtract_mean(feature, feature[0]), feature)

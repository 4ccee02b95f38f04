"""Plain arrays and tensors in place of records: whatever holds the numbers, the answer is the same or one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from vreid.errors import InputError
from vreid.retrieval import (
    cluster,
    evaluate,
    evaluate_features,
    evaluate_repeated,
    evaluate_tracks,
    jaccard_graph,
    nearest,
    rerank,
    rerank_top,
)

IDENTITY, CAMERA = np.arange(60) % 6, np.arange(60) // 6 % 4
TRACKLET = IDENTITY * 4 + CAMERA
FEATURES = np.random.default_rng(0).integers(-8, 9, size=(60, 12)) / 8.0  # exact in every precision
QUERY, GALLERY = FEATURES[:12], FEATURES[12:]
DISTANCES = ((QUERY[:, None] - GALLERY) ** 2).sum(axis=2).round(2)
LABELS = {
    "query_identity": IDENTITY[:12],
    "gallery_identity": IDENTITY[12:],
    "query_camera": CAMERA[:12],
    "gallery_camera": CAMERA[12:],
}

JUDGES = {
    "evaluate": lambda of: evaluate(of(np.floor(DISTANCES)), **{name: of(codes) for name, codes in LABELS.items()}),
    "features": lambda of: evaluate_features(of(QUERY), of(GALLERY), **LABELS),
    "tracks": lambda of: evaluate_tracks(of(np.floor(DISTANCES)), **LABELS, tracklet_of_image=of(TRACKLET[12:])),
    "repeated": lambda of: evaluate_repeated(of(np.abs(IDENTITY - IDENTITY[:, None])), identity=of(IDENTITY)),
}


@pytest.mark.parametrize("kind", ["list", "float64", "half", "bfloat16", "requires grad"])
@pytest.mark.parametrize("judge", JUDGES)
def test_numbers_may_be_held_by_anything(judge, kind):
    def of(values):
        if kind in ("list", "float64"):
            return values.tolist() if kind == "list" else values
        torch = pytest.importorskip("torch")
        tensor = torch.from_numpy(values)
        if values.dtype.kind == "i":
            return tensor
        return tensor.float().requires_grad_() if kind == "requires grad" else tensor.to(getattr(torch, kind))

    expected, found = JUDGES[judge](np.asarray), JUDGES[judge](of)
    assert found.mAP == expected.mAP
    assert np.array_equal(found.relevant, expected.relevant)


def test_a_distance_matrix_does_not_record_its_origin():
    metrics = evaluate(rerank(QUERY, GALLERY, k1=5, k2=2), **LABELS)
    assert metrics.reranked is None and metrics.transductive is None
    assert "re-ranking" not in str(metrics) and "transductive" not in str(metrics)
    assert metrics.as_dict()["reranked"] is None
    plain = evaluate_features(QUERY, GALLERY, **LABELS)
    assert str(plain).endswith("protocol market; without re-ranking; not transductive)")
    assert plain.mAP == evaluate(DISTANCES, **LABELS).mAP


def test_features_of_any_norm_are_evaluated():
    expected = evaluate_features(QUERY, GALLERY, **LABELS)
    for scale in (2.0**-60, 2.0**63):  # squares that float32 does not hold
        assert evaluate_features(QUERY * scale, GALLERY * scale, **LABELS).mAP == expected.mAP


@pytest.mark.parametrize("number", [2.5, "3", 0, -1, None, np.nan])
@pytest.mark.parametrize(
    "call",
    [
        lambda k: rerank(QUERY, GALLERY, k1=k),
        lambda k: rerank(QUERY, GALLERY, k1=5, k2=k),
        lambda k: rerank_top(QUERY, GALLERY, k, k1=5),
        lambda k: jaccard_graph(FEATURES, k1=k, max_distance=0.5),
        lambda k: nearest(QUERY, GALLERY, k),
        lambda k: evaluate(DISTANCES, **LABELS, top_k=0 if k is None else k),
        lambda k: cluster(jaccard_graph(FEATURES, max_distance=0.5), 0.5, k),
    ],
)
def test_what_is_counted_is_a_whole_number(call, number):
    with pytest.raises(InputError, match="whole"):
        call(number)


def test_counts_of_numpy_are_numbers_too():
    assert np.array_equal(nearest(QUERY, GALLERY, np.int64(3))[1], nearest(QUERY, GALLERY, 3)[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (QUERY + 1j, "query features: must be numbers in rows of equal length .these are complex"),
        ([[1.0, 2.0], [3.0]], "query features: must be numbers in rows of equal length"),
        (np.where(np.arange(12)[:, None] == 3, np.nan, QUERY), "query features: row 4 contains NaN or infinity"),
        (QUERY[:, :5], "query features have 5 dimensions, gallery features 12"),
        (QUERY[:0], "0 query features x 48 gallery features; give at least one of each"),
    ],
)
@pytest.mark.parametrize("call", [rerank, lambda query, gallery: evaluate_features(query, gallery, **LABELS)])
def test_features_that_are_none(call, values, message):
    with pytest.raises(InputError, match=message):
        call(values, GALLERY)

"""Calibration of stores on their own data."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.simulated_site import D, simulated_site
from vreid.store.centering import refit_means
from vreid.store.confidence import THRESHOLD, SearchThreshold
from vreid.store.engines import open_vectors
from vreid.store.interface import VectorStore
from vreid.store.labelling import put_answer, questions
from vreid.store.site_calibration import calibrate_site


@pytest.fixture
def vectors(tmp_path: Path) -> VectorStore:
    return open_vectors(tmp_path / "store", dimensions=D, model="m", create=True)


def test_a_store_is_calibrated_without_labels_and_with_answers(vectors: VectorStore) -> None:
    site = simulated_site(vehicles=150)
    vectors.upsert(site.batch)
    refit_means(vectors)
    found = calibrate_site(vectors)
    assert found.threshold is not None
    assert found.threshold.source == "this site, without labels"
    assert found.threshold.tracklets == len(site.batch)
    assert SearchThreshold.from_dict(vectors.get_document(THRESHOLD)) == found.threshold
    assert calibrate_site(vectors) == found
    vehicle = dict(zip(site.batch.id, site.vehicle, strict=True))
    for first, second in questions(vectors, 30):
        put_answer(vectors, first, second, bool(vehicle[first] == vehicle[second]))
    found = calibrate_site(vectors)
    assert found.threshold is not None
    assert found.threshold.answers > 20
    assert "answers" in found.sentences[0]
    assert found.as_dict()["threshold"]["source"] == "this site, with answers"


def test_a_small_store_keeps_the_shipped_threshold(vectors: VectorStore) -> None:
    vectors.upsert(simulated_site(vehicles=20).batch)
    vectors.put_document(THRESHOLD, {"kind": "old"})
    found = calibrate_site(vectors)
    assert found.threshold is None
    assert "at least 1,000 are needed" in found.sentences[0]
    assert vectors.get_document(THRESHOLD) is None

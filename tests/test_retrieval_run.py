"""The way from a data set to features and judged rankings, as the commands walk it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vreid.data.open import open_dataset
from vreid.retrieval_run import RetrievalRun
from vreid.training import extract as extraction
from vreid.workflow import extract


def test_images_that_are_query_and_gallery_are_extracted_once(
    made: Path, tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        extraction, "extract", lambda *a, plain=extraction.extract, **k: calls.append(1) or plain(*a, **k)
    )
    dataset = open_dataset(tiny_world / "AIC21_Track2_ReID" / "image_query")
    assert dataset.query == dataset.gallery and len(dataset.query)
    search = extract(made / "run", dataset, tmp_path / "features")
    assert calls == [1]
    loaded = RetrievalRun.load(tmp_path / "features")
    for side in (search.gallery, loaded.query, loaded.gallery):
        assert np.array_equal(side.features, search.query.features)
        assert side.records == dataset.query

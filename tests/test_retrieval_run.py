"""A retrieval run: from a data set to features, evaluations and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.progress import Progress
from vreid.retrieval import PostProcessing
from vreid.retrieval_run import RetrievalRun
from vreid.workflow import extract


class CountsImages(Progress):
    count = 0

    def advance(self, steps: int, text: str = "") -> None:
        self.count += steps


def test_images_that_are_query_and_gallery_are_extracted_once(made: Path, tiny_world: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_world / "AIC21_Track2_ReID" / "image_query")
    assert dataset.query == dataset.gallery and len(dataset.query)
    progress = CountsImages()
    search = extract(made / "run", dataset, tmp_path / "features", progress=progress)
    assert progress.count == len(dataset.query)
    assert not (tmp_path / "features" / "gallery.safetensors").exists()
    loaded = RetrievalRun.load(tmp_path / "features")
    for side in (search.gallery, loaded.query, loaded.gallery):
        assert np.array_equal(side.features, search.query.features)
        assert side.records == dataset.query


def test_a_run_is_saved_loaded_and_printed(made: Path, tmp_path: Path) -> None:
    run = RetrievalRun.load(made / "features")
    run.save(tmp_path / "copy")
    copy = RetrievalRun.load(tmp_path / "copy")
    assert repr(copy) == repr(run)
    assert copy.facts == run.facts and copy.trained_cameras == run.trained_cameras
    assert f"protocol {run.protocol.name}" in repr(run)
    evaluation = copy.evaluate("rerank=4:2:0.6")
    assert evaluation.overall.as_dict() == run.evaluate(PostProcessing.parse("rerank=4:2:0.6")).overall.as_dict()
    for part, metrics in evaluation.items():
        line = next(line for line in str(evaluation).splitlines() if line.startswith(f"  {part}"))
        assert f"mAP {100 * metrics.mAP:.1f}" in line
    assert str(evaluation).startswith("rerank=4:2:0.6; protocol ")
    slices = run.evaluate(by="camera")
    assert set(slices) <= set(run.query.records.camera.values)
    with pytest.raises(InputError, match="evaluate without `by` for all"):
        slices.overall  # noqa: B018


def test_an_ensemble_is_evaluated_but_not_saved_as_one_folder(made: Path, tmp_path: Path) -> None:
    ensemble = RetrievalRun.load(made / "features", made / "features")
    assert "2 models" in repr(ensemble)
    with pytest.raises(InputError, match="a folder holds the features of one model"):
        ensemble.save(tmp_path / "both")
    with pytest.raises(InputError, match="tune each member separately"):
        ensemble.tune("rerank", ensemble)


def test_steps_and_protocols_are_given_as_text(made: Path) -> None:
    run = RetrievalRun.load(made / "features").under("market")
    assert run.protocol.name == "market"
    with pytest.raises(InputError, match="There is no protocol 'markt'; did you mean 'market'"):
        run.under("markt")
    assert [row.name for row in run.ablate("camera-mean")][-1] == "+ camera-mean"
    threshold = run.calibrate(fpir=0.3, miss_rate=0.3, leave_out=0.5, seed=1)
    assert threshold.match <= threshold.no_match and threshold.left_out
    with pytest.raises(InputError, match=r"validation 1 of 1 \(.*\): .* is in validation and test"):
        run.tune("rerank", run)

"""Images of records: files, boxes and frames of videos, each decoded once, in any order of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.small_videos import write_video
from vreid.data.augment import TestTransform
from vreid.data.loading import test_loader
from vreid.data.record_images import RecordImages
from vreid.data.records import Records
from vreid.errors import InputError


def grey(image: Image.Image) -> float:
    return float(np.asarray(image).mean())


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Two boxes of frame 1, a whole frame 4 of a video whose frame n is of grey 20 n; an image of grey 200."""
    video = write_video(tmp_path / "north.mp4")
    Image.new("RGB", (30, 20), (200, 200, 200)).save(tmp_path / "a.png")
    whole = [np.nan] * 4
    return Records.of(
        path=[video, tmp_path / "a.png", video, video, tmp_path / "a.png"],
        frame=[4, -1, 1, 1, -1],
        box=[whole, whole, [0, 0, 16, 8], [10, 10, 40, 40], [2, 2, 6, 8]],
        image_key=list("abcde"),
    )


def test_each_row_is_its_part_of_its_frame(records: Records) -> None:
    found = dict(RecordImages(records).read([3, 0, 4, 1, 2]))
    assert {row: image.size for row, image in found.items()} == {
        0: (64, 48),
        1: (30, 20),
        2: (16, 8),
        3: (30, 30),
        4: (4, 6),
    }
    assert [round(grey(found[row]) / 20) for row in range(5)] == [4, 10, 1, 1, 10]
    for row, image in enumerate(RecordImages(records)):  # one row at a time, in their order
        assert np.array_equal(np.asarray(image), np.asarray(found[row]))


def test_frames_are_decoded_once_and_the_last_is_kept(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    from vreid.data import record_images

    asked = []
    reading = record_images.read_frames
    monkeypatch.setattr(
        record_images, "read_frames", lambda path, wanted, **more: asked.append(wanted) or reading(path, wanted, **more)
    )
    images = RecordImages(records)
    assert len(list(images.read([2, 0]))) == 2
    assert len(list(images.read([0]))) == 1  # the last frame
    assert len(list(images.read([3]))) == 1
    assert asked == [[1, 4], [1]]


def test_batches_of_a_loader_hold_frames(records: Records) -> None:
    batches = list(test_loader(records, TestTransform(8, 8, mean=(0, 0, 0), std=(1, 1, 1)), batch_size=2, workers=0))
    levels = np.concatenate([batch.images.mean(dim=(1, 2, 3)).numpy() for batch in batches]) * 255 / 20
    assert levels.round().tolist() == [4, 10, 1, 1, 10]


def test_a_frame_that_is_not_there_is_named(records: Records) -> None:
    for frame, sentence in ((9, "frame 9 cannot be decoded"), (-1, "a row has no frame number")):
        wrong = RecordImages(records.with_(frame=[frame, -1, 1, 1, -1]))
        with pytest.raises(InputError, match=rf"north.mp4: {sentence}"):
            list(wrong.read([0]))

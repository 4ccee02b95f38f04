"""Trackers of other packages take a model as theirs: BoxMOT, DeepSORT and supervision, where they are installed."""

from __future__ import annotations

import numpy as np
import pytest

from support.tiny_model import picture, write_model
from vreid.inference.embedder import Embedder, load_model
from vreid.inference.tracking import TrackerFeatures

pytestmark = pytest.mark.usefixtures("one_thread")

BOXES = np.array([[10.0, 10, 60, 40], [70, 30, 118, 75]])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return load_model(write_model(tmp_path_factory.mktemp("model") / "m.safetensors"))


def frames(count: int) -> list[np.ndarray]:
    """A background with two vehicles that move a pixel a frame, in blue, green, red."""
    background, cars = picture(80, 140), [picture(30, 50, 1), picture(45, 48, 2)]
    made = []
    for number in range(count):
        frame = background.copy()
        for car, (x, y, *_) in zip(cars, BOXES.astype(int), strict=True):
            frame[y : y + car.shape[0], x + number : x + number + car.shape[1]] = car
        made.append(np.ascontiguousarray(frame[:, :, ::-1]))
    return made


def test_both_interfaces_give_the_features_of_the_boxes(model: Embedder) -> None:
    (frame,) = frames(1)
    expected = model.embed(np.ascontiguousarray(frame[:, :, ::-1]), BOXES)
    features = TrackerFeatures(model)
    np.testing.assert_array_equal(features.get_features(BOXES, frame), expected)
    sized = np.column_stack([BOXES[:, :2], BOXES[:, 2:] - BOXES[:, :2]])
    np.testing.assert_array_equal(features(frame, sized), expected)
    np.testing.assert_array_equal(TrackerFeatures(model, bgr=False)(frame[:, :, ::-1], sized), expected)
    assert features(frame, []).shape == (0, features.embedding_dim) == (0, 64)


def test_boxmot_takes_it_as_its_model(model: Embedder) -> None:
    boxmot = pytest.importorskip("boxmot", reason="BoxMOT is not installed")
    tracker = boxmot.BotSort(reid_model=TrackerFeatures(model))
    for number, frame in enumerate(frames(4)):
        moved = BOXES + np.array([number, 0, number, 0])
        found = tracker.update(np.column_stack([moved, [0.9, 0.9], [2, 2]]), frame)
    assert len(found) == 2 and len({int(row[4]) for row in np.asarray(found)}) == 2


def test_deep_sort_takes_its_features(model: Embedder) -> None:
    deep_sort = pytest.importorskip("deep_sort_realtime.deepsort_tracker", reason="deep-sort-realtime is not installed")
    tracker, encoder = deep_sort.DeepSort(embedder=None, n_init=2), TrackerFeatures(model)
    for number, frame in enumerate(frames(4)):
        sized = [[x + number, y, right - x, bottom - y] for x, y, right, bottom in BOXES]
        tracks = tracker.update_tracks([(box, 0.9, "car") for box in sized], embeds=list(encoder(frame, sized)))
    assert sorted(track.track_id for track in tracks if track.is_confirmed()) == ["1", "2"]


def test_detections_of_supervision_are_boxes(model: Embedder) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    frame = frames(1)[0][:, :, ::-1]
    detections = supervision.Detections(xyxy=BOXES, class_id=np.array([2, 2]))
    np.testing.assert_array_equal(model.embed(frame, detections), model.embed(frame, BOXES))
    assert model.embed(frame, supervision.Detections.empty()).shape == (0, 64)
    assert [set(one) for one in model.attributes(frame, detections)] == [{"color", "orientation"}] * 2

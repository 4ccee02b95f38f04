"""Linking of boxes into tracklets."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from vreid.data.records import Records
from vreid.detection.linking import link_boxes
from vreid.errors import InputError


def boxes(step: int = 1) -> Records:
    """Two vehicles drive past each other in two cameras; one of them is not detected in frames 10 to 14."""
    rows = [
        (camera, frame, (left, top, left + 60.0, top + 40.0))
        for camera in ("a", "b")
        for frame in range(0, 40, step)
        for left, top in ((5.0 * frame, 50.0), (300 - 5.0 * frame, 140.0))
        if not (top == 50 and 10 <= frame < 15)
    ]
    return Records.of(
        path=[f"{camera}/{frame:06d}.jpg" for camera, frame, _ in rows],
        image_key=[f"{camera}/{frame}/{box[1]}" for camera, frame, box in rows],
        camera=[camera for camera, _, _ in rows],
        frame=[frame for _, frame, _ in rows],
        box=[box for _, _, box in rows],
    )


@pytest.mark.parametrize("step", [1, 3])
def test_each_vehicle_is_one_tracklet_in_each_camera(step: int) -> None:
    pytest.importorskip("trackers", reason="needs the extra tracking")
    records = boxes(step)
    linked, left_out = link_boxes(records)
    assert len(linked) + left_out == len(records) and left_out <= 4
    assert set(linked.tracklet.values) == {"a/1", "a/2", "b/1", "b/2"}
    for name in set(linked.tracklet.values):
        assert len(np.unique(linked.box[linked.tracklet.values == name, 1])) == 1


def test_tracklets_that_are_given_are_kept() -> None:
    pytest.importorskip("trackers", reason="needs the extra tracking")
    records = boxes()
    given = records.with_(tracklet=np.where((records.camera.values == "a") & (records.box[:, 1] < 100), "a/1", ""))
    linked, _ = link_boxes(given)
    assert set(linked.tracklet.values) == {"a/1", "a/2", "b/1", "b/2"}
    assert (linked.tracklet.values == "a/1").sum() == 35


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(InputError, match=r"pip install 'vehicle-reid\[tracking\]'"):
        link_boxes(boxes())

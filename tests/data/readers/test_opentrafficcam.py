"""OpenTrafficCam's tracks and detections beside their videos."""

from __future__ import annotations

import bz2
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.small_videos import write_video
from vreid.data.cameras import Camera, with_times
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.errors import InputError

REAL = Path(__file__).parents[4] / "shared" / "data" / "opentrafficcam"
NAME = "Bridge_FR10_2020-01-01_00-00-00"
START = datetime(2020, 1, 1, tzinfo=UTC).timestamp()


def box(
    frame: int, track: int, kind: str = "car", x: float = 30, y: float = 20, at: int | None = None
) -> dict[str, Any]:
    at = frame - 1 if at is None else at
    return {
        **{"class": kind, "confidence": 0.9, "x": x, "y": y, "w": 20, "h": 10, "frame": frame},
        **{"occurrence": START + at / 10, "track-id": track, "first": False},
    }


def write(folder: Path, *boxes: dict[str, Any], name: str = NAME, suffix: str = ".ottrk", **metadata: Any) -> Path:
    video = {"filename": name, "filetype": ".mp4", "width": 64, "height": 48, "recorded_fps": 10.0}
    video |= {"number_of_frames": 6, "recorded_start_date": START}
    about = {"otdet_version": "1.4", "video": video, "detection": {"normalized_bbox": False}, **metadata}
    write_video(folder / f"{name}.mp4")
    path = folder / f"{name}{suffix}"
    path.write_bytes(bz2.compress(json.dumps({"metadata": about, "data": {"detections": boxes}}).encode()))
    return path


def opened(source: Path) -> tuple[Dataset, list[str]]:
    findings: list[Finding] = []
    dataset = open_dataset(source, on_finding=findings.append)
    return dataset, [str(finding) for finding in findings]


def test_the_real_file(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("there is no shared/data/opentrafficcam beside the checkout")
    pytest.importorskip("av", reason="needs PyAV (extra video)")
    records = open_dataset(REAL).gallery
    assert len(records) == 418 and records.tracklet.distinct == 12
    assert set(records.camera.names) == {"Testvideo_Cars-Truck"} and records.frame.max() == 59
    truck = records[(records.frame == 0) & (records.vehicle_type.values == "truck")][0]
    # the green lorry in the first frame, measured in the image
    assert np.allclose(truck.box, [[120, 90, 250, 174]], atol=2)
    assert records.time.max() - START == pytest.approx(2.95)


def test_left_and_top_from_version_1_1_on_and_the_centre_before(tmp_path: Path) -> None:
    assert open_dataset(write(tmp_path / "new", box(1, 7))).gallery.box.tolist() == [[30, 20, 50, 30]]
    old = write(tmp_path / "old", box(1, 7), otdet_version="1.0")
    assert open_dataset(old).gallery.box.tolist() == [[20, 15, 40, 25]]
    for unknown in ("2.0", None):
        with pytest.raises(InputError, match=r"otdet_version is .* which tells where the corner of a box is"):
            open_dataset(write(tmp_path / "other", box(1, 7), otdet_version=unknown))


def test_shares_of_the_frame(tmp_path: Path) -> None:
    shares = {**box(1, 7), "x": 0.5, "y": 0.25, "w": 0.25, "h": 0.5}
    path = write(tmp_path, shares, detection={"normalized_bbox": True})
    assert open_dataset(path).gallery.box.tolist() == [[32, 12, 48, 36]]


def test_frames_numbered_from_the_first_box_are_placed_by_their_times(tmp_path: Path) -> None:
    dataset, findings = opened(write(tmp_path, box(1, 7, at=3), box(2, 7, at=4)))
    assert dataset.gallery.frame.tolist() == [3, 4] and not findings
    assert "they are moved by 3" in dataset.notes[0]


def test_dates_as_text_are_local_times(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path, {**box(1, 7), "occurrence": "2020-01-01 00:00:00.000000"}))
    assert dataset.gallery.time.tolist() == [START] and dataset.local_times == ("Bridge",)
    cameras = {"Bridge": Camera("Bridge", zone="Europe/Berlin")}
    assert with_times(dataset.gallery, cameras, local=dataset.local_times).time.tolist() == [START - 3600]


def test_detections_without_tracks(tmp_path: Path) -> None:
    path = write(tmp_path, suffix=".otdet")
    contents = json.loads(bz2.decompress(path.read_bytes()))
    plain = {name: value for name, value in box(1, 7).items() if name in ("class", "confidence", "x", "y", "w", "h")}
    contents["data"] = {"3": {"detections": [plain], "occurrence": START + 0.2}}
    path.write_bytes(json.dumps(contents).encode())  # not packed
    records = open_dataset(path).gallery
    assert records.frame.tolist() == [2] and records.tracklet.distinct == 0
    assert records.image_key.tolist() == ["Bridge/2020-01-01_00-00-00/000002#30,20,50,30"]


def test_a_folder_of_recordings_of_one_run_shares_ids(tmp_path: Path) -> None:
    later = "Bridge_FR10_2020-01-01_00-15-00"
    group = {"frame_group": 0, "first_tracked_video_start": START}
    write(tmp_path, box(6, 7), tracking=group)
    path = write(tmp_path, {**box(1, 7), "occurrence": START + 900}, name=later, tracking=group)
    contents = json.loads(bz2.decompress(path.read_bytes()))
    contents["metadata"]["video"]["recorded_start_date"] = START + 900
    path.write_bytes(bz2.compress(json.dumps(contents).encode()))
    records = open_dataset(tmp_path).gallery
    assert set(records.tracklet.values) == {"Bridge/2020-01-01_00-00-00/7"} and len(records) == 2
    assert [Path(path).stem for path in records.path] == [NAME, later]
    del contents["metadata"]["tracking"]
    path.write_bytes(bz2.compress(json.dumps(contents).encode()))
    assert open_dataset(tmp_path).gallery.tracklet.distinct == 2  # ids of another run


def test_wrong_boxes_are_reported_and_people_counted(tmp_path: Path) -> None:
    dataset, findings = opened(
        write(tmp_path, box(1, 7), box(1, 7), {**box(2, 7), "w": "wide"}, box(2, 8, x=70), box(2, 9, "person"))
    )
    assert (
        len(dataset.gallery) == 1 and "boxes of other classes than vehicles are not used: person (1)." in dataset.notes
    )
    assert [finding.split(": ", 1)[1][:40] for finding in findings] == [
        "this id or box is in its frame already (",
        'is \'{"class": "car", "confidence": 0.9, ',
        "box (70, 20, 90, 30) lies outside its im",
    ]
    assert ", detection 2: " in findings[0]


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path, box(1, 7))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match="ends in the middle; copy it again"):
        open_dataset(path)
    path.write_bytes(whole[:40] + bytes(20) + whole[60:])
    with pytest.raises(InputError, match="is damaged"):
        open_dataset(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="has no metadata"):
        open_dataset(path)


def test_without_its_video(tmp_path: Path) -> None:
    path = write(tmp_path, box(1, 7))
    (tmp_path / f"{NAME}.mp4").unlink()
    with pytest.raises(InputError, match=f"its video {NAME}.mp4 is not beside it; put the video there"):
        open_dataset(path)

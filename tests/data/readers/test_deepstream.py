"""DeepStream's KITTI-style dumps and JSON messages, written by the formats of its sources (deepstream-app 6 and 7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.small_videos import write_video
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.errors import InputError

IDS = ("4873372822379954177", "4873372822379954178", "18446744073709551615")
BOX = "10.000000 20.000000 40.000000 35.000000"
REST = "0.0 0.0 0.0 0.0 0.0 0.0 0.0"


def opened(source: Path) -> tuple[Dataset, list[str]]:
    findings: list[Finding] = []
    dataset = open_dataset(source, on_finding=findings.append)
    return dataset, [str(finding) for finding in findings]


def dump(folder: Path, name: str, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


def test_dumps_of_tracks(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    lines = (
        f"car {IDS[0]} 0.0 0 0.0 {BOX} {REST} 0.91",
        f"Car {IDS[1]} 0.0 0 0.0 50 1 60 9 {REST}",  # old versions write no confidence
        f"road sign {IDS[0]} 0.0 0 0.0 {BOX} {REST} 0.91",
        f"car {IDS[2]} 0.0 0 0.0 1 1 9 9 {REST} -1.0",
    )
    dump(tmp_path / "kitti", "00_000_000000.txt", *lines)
    dump(tmp_path / "kitti", "00_000_000005.txt", lines[0], "car 1.0")
    dump(tmp_path / "kitti", "00_000_000003.txt")
    dataset, findings = opened(tmp_path / "kitti")
    records = dataset.gallery
    assert records.frame.tolist() == [0, 0, 0, 5] and records.box[0].tolist() == [10, 20, 40, 35]
    assert records.tracklet.values.tolist() == [f"north/{IDS[0]}", f"north/{IDS[1]}", "", f"north/{IDS[0]}"]
    assert "road sign (1)" in dataset.notes[0] and len(findings) == 1 and "000005.txt, line 2: is 'car 1" in findings[0]


def test_dumps_of_detections(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    dump(tmp_path, "00_000_000002.txt", f"car 0.0 0 0.0 {BOX} {REST} 0.91", f"car 0.0 0 0.0 1 1 9 9 {REST}")
    records = open_dataset(tmp_path).gallery
    assert records.frame.tolist() == [2, 2] and records.tracklet.distinct == 0


def test_dumps_of_several_streams(tmp_path: Path) -> None:
    for stream in ("00_000", "00_001"):
        dump(tmp_path, f"{stream}_000000.txt", f"car 7 0.0 0 0.0 {BOX} {REST} 0.91")
    write_video(tmp_path / "north.mp4")
    with pytest.raises(InputError, match=r"boxes of 2 streams beside 1 videos, .* name its video 00_000.mp4"):
        open_dataset(tmp_path)
    (tmp_path / "north.mp4").rename(tmp_path / "00_000.mp4")
    write_video(tmp_path / "00_001.mp4")
    assert open_dataset(tmp_path).gallery.tracklet.values.tolist() == ["00_000/7", "00_001/7"]


def minimal(frame: int, *objects: str, sensor: str = "north", second: float | None = None) -> dict[str, Any]:
    at = frame / 10 if second is None else second
    stamp = f"2026-05-01T12:00:{at:06.3f}Z"
    return {"version": "4.0", "id": frame, "@timestamp": stamp, "sensorId": sensor, "objects": list(objects)}


def full(second: float, track: str, kind: str = "vehicle") -> dict[str, Any]:
    box = {"topleftx": 10, "toplefty": 20, "bottomrightx": 40, "bottomrighty": 35}
    one = {"id": track, "speed": 0, "direction": 0, "orientation": 0, "bbox": box, "location": {"lat": 0.0}}
    one[kind] = {"type": "sedan", "make": "Bugatti", "confidence": -0.1}
    stamp = f"2026-05-01T12:00:{second:06.3f}Z"
    sensor = {"id": "north", "type": "Camera"}
    return {
        "messageid": "x",
        "mdsversion": "1.0",
        "@timestamp": stamp,
        "sensor": sensor,
        "object": one,
        "videoPath": "",
    }


OBJECTS = (f"{IDS[0]}|10|20|40|35|car|#|sedan|Bugatti|0.9", f"{IDS[1]}|50|1|60|9|Person", f"{IDS[2]}|1|1|9|9|bus")


@pytest.mark.parametrize("form", ["lines", "array", "pretty"])
def test_minimal_messages(form: str, tmp_path: Path) -> None:
    write_video(tmp_path / "any.mp4")
    messages = [minimal(0, *OBJECTS), minimal(5, OBJECTS[0], "7|8")]
    text = {
        "lines": "\n".join(json.dumps(one) for one in messages),
        "array": json.dumps(messages),
        "pretty": "\n".join(json.dumps(one, indent=3) for one in messages),
    }[form]
    (tmp_path / "messages.json").write_text(text)
    dataset, findings = opened(tmp_path)
    records = dataset.gallery
    assert records.camera.names.tolist() == ["north"] and records.frame.tolist() == [0, 0, 5]
    assert records.tracklet.values.tolist() == [f"north/{IDS[0]}", "", f"north/{IDS[0]}"]
    assert records.vehicle_type.values.tolist() == ["car", "bus", "car"]
    assert records.time - records.time[0] == pytest.approx([0, 0, 0.5]) and not dataset.local_times
    assert len(findings) == 1 and "object '7|8' is no box" in findings[0]


def test_time_stamps_of_writing_are_not_used(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4", frames=60)
    messages = [minimal(0, OBJECTS[0], second=0), minimal(50, OBJECTS[0], second=0.4)]
    (tmp_path / "messages.json").write_text(json.dumps(messages))
    dataset = open_dataset(tmp_path / "messages.json")
    assert (dataset.gallery.time != dataset.gallery.time).all()
    assert "cover 0.4 s of writing for 5.0 s of north.mp4 and are not used" in dataset.notes[0]


def test_full_messages_need_the_start_of_the_video(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    messages = [full(0.0, IDS[0]), full(0.3, IDS[0]), full(0.3, "1", "person"), full(30, IDS[0])]
    (tmp_path / "messages.json").write_text("\n".join(map(json.dumps, messages)))
    with pytest.raises(InputError, match=r"full schema, which has no frame numbers; write the minimal one"):
        open_dataset(tmp_path)
    (tmp_path / "north.mp4").rename(tmp_path / "north_2026-05-01_12-00-00.mp4")
    dataset, findings = opened(tmp_path)
    assert dataset.gallery.frame.tolist() == [0, 3] and dataset.gallery.vehicle_type.names.tolist() == ["sedan"]
    assert dataset.gallery.tracklet.values.tolist() == [f"north/2026-05-01_12-00-00/{IDS[0]}"] * 2
    assert len(findings) == 1 and "line 4: its time lies outside" in findings[0]


def test_sensors_by_the_names_of_videos(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_video(tmp_path / f"{name}.mp4")
    text = "\n".join(json.dumps(minimal(0, OBJECTS[0], sensor=name)) for name in ("north", "south"))
    (tmp_path / "messages.jsonl").write_text(text + '\n{"@timestamp": "never", "sensorId": "a", "objects": []}')
    dataset, findings = opened(tmp_path)
    assert [Path(path).stem for path in dataset.gallery.path] == ["north", "south"]
    assert len(findings) == 1 and "line 3: the message is not understood ('never' is neither" in findings[0]

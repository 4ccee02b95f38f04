"""Tables of detections beside videos, as supervision and Ultralytics write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.small_videos import write_video
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.errors import InputError

# supervision 0.31.2: CSVSink and JSONSink, Detections with data["class_name"], custom_data={"frame_index": n}
CSV_SINK = """x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,frame_index
10.0,20.0,40.0,35.0,2,0.9,1,car,0
0.0,0.0,12.0,10.0,0,0.8,2,person,0
12.5,20.0,42.5,35.0,2,0.9,1,car,3
"""
JSON_SINK = """[
    {
        "x_min": 10.0,
        "y_min": 20.0,
        "x_max": 40.0,
        "y_max": 35.0,
        "class_id": 2,
        "confidence": 0.8999999761581421,
        "tracker_id": 1,
        "class_name": "car",
        "frame_index": 0
    },
    {
        "x_min": 0.0,
        "y_min": 0.0,
        "x_max": 12.0,
        "y_max": 10.0,
        "class_id": 0,
        "confidence": 0.800000011920929,
        "tracker_id": 2,
        "class_name": "person",
        "frame_index": 0
    },
    {
        "x_min": 12.5,
        "y_min": 20.0,
        "x_max": 42.5,
        "y_max": 35.0,
        "class_id": 2,
        "confidence": 0.8999999761581421,
        "tracker_id": 1,
        "class_name": "car",
        "frame_index": 3
    }
]"""
# by the format of Ultralytics 8.3 Results.to_csv() and to_json() (polars 2.1.0 wrote them), with a column of frames
ULTRALYTICS = """name,class,confidence,box,track_id,frame
car,2,0.9,"{'x1': 10.0, 'y1': 20.0, 'x2': 40.0, 'y2': 35.0}",1,0
person,0,0.9,"{'x1': 0.0, 'y1': 0.0, 'x2': 4.0, 'y2': 3.0}",2,0
car,2,0.9,"{'x1': 12.5, 'y1': 20.0, 'x2': 42.5, 'y2': 35.0}",1,3
"""
ULTRALYTICS_JSON = (
    '[{"name":"car","class":2,"confidence":0.9,"box":{"x1":10.0,"y1":20.0,"x2":40.0,"y2":35.0},"track_id":1,"frame":0},'
    '{"name":"person","class":0,"confidence":0.9,"box":{"x1":0.0,"y1":0.0,"x2":4.0,"y2":3.0},"track_id":2,"frame":0},'
    '{"name":"car","class":2,"confidence":0.9,"box":{"x1":12.5,"y1":20.0,"x2":42.5,"y2":35.0},"track_id":1,"frame":3}]'
)


def opened(source: Path) -> tuple[Dataset, list[str]]:
    findings: list[Finding] = []
    dataset = open_dataset(source, on_finding=findings.append)
    return dataset, [str(finding) for finding in findings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "north.mp4")
    return tmp_path


def put(folder: Path, name: str, *rows: str) -> Path:
    (folder / name).write_text("\n".join(rows))
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("north.csv", CSV_SINK),
        ("north.json", JSON_SINK),
        ("north.csv", ULTRALYTICS),
        ("north.json", ULTRALYTICS_JSON),
        ("out.jsonl", "\n".join(json.dumps(row) for row in json.loads(JSON_SINK))),
    ],
)
@pytest.mark.parametrize("given", ["file", "folder"])
def test_as_their_writers_write(name: str, text: str, given: str, folder: Path) -> None:
    path = put(folder, name, text)
    dataset, findings = opened(path if given == "file" else folder)
    assert not findings and "boxes of other classes than vehicles are not used: person (1)." in dataset.notes
    records = dataset.gallery
    assert records.path.tolist() == [str(folder / "north.mp4")] * 2 and records.frame.tolist() == [0, 3]
    assert records.box.tolist() == [[10, 20, 40, 35], [12.5, 20, 42.5, 35]]
    assert records.tracklet.values.tolist() == ["north/1"] * 2 and set(records.vehicle_type.values) == {"car"}


HEADER = "x_min,y_min,x_max,y_max,tracker_id,"


@pytest.mark.parametrize(
    ("header", "frames", "indices", "noted"),
    [
        ("frame_index", "2", [2], False),
        ("frame_number", "0,2", [0, 2], False),
        ("frame_number", "2,6", [1, 5], False),  # as many as the video has
        ("frame", "2,4", [2, 4], True),
    ],
)
def test_frames_count_from_0_or_1(header: str, frames: str, indices: list[int], noted: bool, folder: Path) -> None:
    dataset = open_dataset(put(folder, "a.csv", HEADER + header, *(f"1,1,9,9,7,{n}" for n in frames.split(","))))
    assert dataset.gallery.frame.tolist() == indices
    assert any("are taken to count from 0, although none is 0" in note for note in dataset.notes) == noted


def test_several_videos(folder: Path) -> None:
    write_video(folder / "south.mp4")
    rows = ("1,1,9,9,7,0,", "1,1,9,9,7,1,")
    by_camera = put(folder, "a.csv", HEADER + "frame_index,camera", rows[0] + "north", rows[1] + "south")
    assert open_dataset(by_camera).gallery.tracklet.values.tolist() == ["north/7", "south/7"]
    by_name = put(folder, "a.csv", HEADER + "frame_index,video", rows[0] + "/other/north.mp4", rows[1] + "south.mp4")
    assert open_dataset(by_name).gallery.camera.values.tolist() == ["north", "south"]
    with pytest.raises(InputError, match=r"of the videos of camera east, there is none beside it"):
        open_dataset(put(folder, "a.csv", HEADER + "frame_index,camera", rows[0] + "east"))
    with pytest.raises(InputError, match=r"does not say to which of 2 videos its boxes belong; name it like"):
        open_dataset(put(folder, "a.csv", HEADER + "frame_index", rows[0][:-1]))
    with pytest.raises(InputError, match=r"its video west.mp4 does not exist"):
        open_dataset(put(folder, "a.csv", HEADER + "frame_index,video", rows[0] + "west.mp4"))


def test_without_frames_or_boxes(folder: Path) -> None:
    with pytest.raises(InputError, match=r"has no column with the number of the frame .*; add frame_index"):
        open_dataset(put(folder, "a.csv", ULTRALYTICS.replace(",frame\n", ",remark\n")))
    with pytest.raises(InputError, match=r"holds classes without boxes \(YOLOv5 --save-csv\); run it with --save-txt"):
        open_dataset(put(folder, "predictions.csv", "Image Name,Prediction,Confidence", "a.jpg,car,0.9"))


def test_times(folder: Path) -> None:
    times = ("2026-05-01T12:00:00Z", "1777636800.5", "", "yesterday")
    path = put(folder, "a.csv", HEADER + "frame_index,time", *(f"1,1,9,9,7,{n},{at}" for n, at in enumerate(times)))
    dataset, findings = opened(path)
    assert dataset.gallery.time[:2].tolist() == [1777636800.0, 1777636800.5] and not dataset.local_times
    assert len(dataset.gallery) == 4 and "a.csv, line 5: time 'yesterday' is neither seconds" in findings[0]
    local = open_dataset(put(folder, "a.csv", HEADER + "frame_index,time", "1,1,9,9,7,0,2026-05-01 12:00:00"))
    assert local.local_times == ("north",)
    since = open_dataset(put(folder, "a.csv", HEADER + "frame_index,time", "1,1,9,9,7,0,0.5"))
    assert since.gallery.time[0] != since.gallery.time[0] and "seconds since an unknown start" in since.notes[0]


def test_wrong_rows_do_not_stop_the_rest(folder: Path) -> None:
    rows = (
        "1,1,9,9,7,0",
        "1,1,9,9,7,1.5",
        "9,1,1,9,7,2",
        "a,1,9,9,7,3",
        "1,1,9,9,4.87e+18,3",
        "1,1,9,9",
        "1,1,9,9,8,5",
    )
    dataset, findings = opened(put(folder, "a.csv", HEADER + "frame_index", *rows))
    assert dataset.gallery.frame.tolist() == [0, 5]
    assert sorted(finding.partition("line ")[2].partition(":")[0] for finding in findings) == list("34567")
    lines = ('{"x1": 1, "y1": 1, "x2": 9, "y2": 9, "frame": 0}', "{broken", '{"x1": 1, "frame": 2}', "7")
    dataset, findings = opened(put(folder, "a.jsonl", *lines))
    assert len(dataset.gallery) == 1
    assert sorted(finding.partition("line ")[2].partition(":")[0] for finding in findings) == list("234")


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**64 - 2)), min_size=1, unique=True),
    suffix=st.sampled_from([".csv", ".json"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_frames_and_ids_come_back(rows: list[tuple[int, int]], suffix: str, folder: Path) -> None:
    columns = ("x1", "y1", "x2", "y2", "track_id", "frame_index")
    cells = [(1, 1, 9, 9, track, frame) for frame, track in rows]
    if suffix == ".csv":
        text = "\n".join(",".join(map(str, row)) for row in (columns, *cells))
    else:
        text = json.dumps([dict(zip(columns, row, strict=True)) for row in cells])
    records = open_dataset(put(folder, f"a{suffix}", text)).gallery
    found = zip(records.frame.tolist(), (int(name[6:]) for name in records.tracklet.values), strict=True)
    assert sorted(found) == sorted(rows)

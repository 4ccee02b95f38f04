"""AI City results, MOTChallenge text with global ids, and OpenTrafficCam events."""

from __future__ import annotations

import bz2
import json
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run, reported
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.trips.result_files import (
    boxes_of_trips,
    check_ai_city,
    is_ai_city,
    read_ai_city,
    read_mot,
    write_ai_city,
    write_mot,
    write_otevents,
)
from vreid.trips.tracking_metrics import TrackBoxes, evaluate_boxes

RESULT = """\
41 1 1 100 30 60 40 -1 -1
41 2 1 180 30 60 40 -1 -1
41 1 2 100 30 60 40 -1 -1
42 1 1 100 30 60 40 -1 -1
42 3 3 180 30 60 40 -1 -1
"""


def result(folder: Path, text: str = RESULT) -> Path:
    path = folder / "track3.txt"
    path.write_text(text)
    return path


def same(one: TrackBoxes, two: TrackBoxes) -> bool:
    def rows(boxes: TrackBoxes) -> list[tuple[object, ...]]:
        columns = (boxes.camera, boxes.frame.tolist(), map(str, boxes.identity), map(tuple, boxes.corners.tolist()))
        return sorted(zip(*columns, strict=True))

    return rows(one) == rows(two)


def test_an_ai_city_result_is_read_and_written(tmp_path: Path) -> None:
    boxes = read_ai_city(result(tmp_path))
    assert repr(boxes) == "TrackBoxes: 5 boxes, 3 identities, 2 cameras"
    assert set(boxes.camera) == {"c041", "c042"}
    assert boxes.corners[0].tolist() == [100, 30, 160, 70]
    write_ai_city(tmp_path / "again.txt", boxes)
    assert (tmp_path / "again.txt").read_text().splitlines()[:2] == RESULT.splitlines()[0:3:2]  # camera, id, frame
    assert same(read_ai_city(tmp_path / "again.txt"), boxes)
    assert evaluate_boxes(boxes, boxes).idf1 == 1
    assert is_ai_city(tmp_path / "again.txt") and not is_ai_city(tmp_path)


def test_wrong_lines_are_listed_with_their_fix(tmp_path: Path) -> None:
    wrong = RESULT + "\n".join(
        ("41 1 2 0 0 9 9 -1 -1", "41 0 5 0 0 9 9 -1 -1", "41 1 6 0 0 0 9 -1 -1", "41 1 7 0 0 9", "41 1 0 5 5 9 9 -1 -1")
    )
    boxes, findings, notes = check_ai_city(result(tmp_path, wrong))
    assert len(boxes) == 5
    found = [str(finding).removeprefix(f"{tmp_path / 'track3.txt'}, ") for finding in findings]
    assert found == [
        "line 6: frame 2 has this id or box already in line 3; remove one.",
        "line 7: camera, id and frame are 41, 0 and 5; give numbers from 1.",
        "line 8: gives a box of 0 x 9 pixels; correct it.",
        "line 9: is '41 1 7 0 0 9'; write camera id frame left top width height, all numbers.",
        "line 10: camera, id and frame are 41, 1 and 0; give numbers from 1.",
    ]
    assert "(c041/img1), so only its lines are checked" in notes[0]
    assert notes[1:] == ["ids at one camera only: 2 of 3; the evaluation ignores them."]
    with pytest.raises(InputError, match="line 6"):
        read_ai_city(tmp_path / "track3.txt")


def test_check_reads_a_result(tmp_path: Path, run: Run) -> None:
    done = run(f"check {result(tmp_path)} --json")
    assert done.code == 0
    facts = json.loads(done.out)
    assert facts["dataset"] == "AI City multi-camera result: TrackBoxes: 5 boxes, 3 identities, 2 cameras"
    assert facts["findings"] == [] and len(facts["notes"]) == 2
    done = run(f"check {result(tmp_path, RESULT + '41 0 5 0 0 9 9 -1 -1')}")
    assert done.code == 1 and "1 problem found." in done.out
    reported(run(f"check {result(tmp_path, '41 0 5 0 0 9 9 -1 -1')}"), "holds no box of a vehicle")


def test_names_become_numbers(tmp_path: Path) -> None:
    boxes = TrackBoxes.of(
        camera=["north 1", "south 2", "south 2"],
        frame=[1, 1, 2],
        identity=["b", "a", "b"],
        corners=[[0.4, 0.6, 10.2, 10.4], [5, 5, 5.2, 5.2], [1, 1, 3, 3]],
    )
    write_ai_city(tmp_path / "out.txt", boxes)
    assert (tmp_path / "out.txt").read_text() == "1 1 1 0 1 10 9 -1 -1\n2 1 2 1 1 2 2 -1 -1\n2 2 1 5 5 1 1 -1 -1\n"
    with pytest.raises(InputError, match="camera 'north' has no number"):
        write_ai_city(
            tmp_path / "out.txt", TrackBoxes.of(camera=["north"], frame=[1], identity=[1], corners=[[0, 0, 1, 1]])
        )
    two = TrackBoxes.of(camera=["a1", "b1"], frame=[1, 1], identity=[1, 1], corners=[[0, 0, 1, 1]] * 2)
    with pytest.raises(InputError, match="cameras 'a1' and 'b1' have one number"):
        write_ai_city(tmp_path / "out.txt", two)


def test_motchallenge_text_has_a_file_for_each_camera(tmp_path: Path) -> None:
    boxes = read_ai_city(result(tmp_path))
    write_mot(tmp_path / "mot", boxes)
    assert sorted(path.name for path in (tmp_path / "mot").iterdir()) == ["c041.txt", "c042.txt"]
    assert (tmp_path / "mot" / "c042.txt").read_text() == "1,1,100,30,60,40,1,-1,-1,-1\n3,3,180,30,60,40,1,-1,-1,-1\n"
    assert same(read_mot(tmp_path / "mot"), boxes)
    (tmp_path / "mot" / "c042.txt").write_text("1,-1,100,30,60,40\n")
    with pytest.raises(InputError, match=r"c042.txt, line 1: has no id; give the number of the vehicle, from 1"):
        read_mot(tmp_path / "mot")


def site(tmp_path: Path, *, time: float = 1_700_000_000.25) -> tuple[Records, Path]:
    """Three tracklets in two videos, two of them one trip."""
    records = Records.of(
        path=["a/c001.mp4"] * 3 + ["a/c002.mp4"] * 2,
        image_key=[f"k{n}" for n in range(5)],
        camera=["c001"] * 3 + ["c002"] * 2,
        tracklet=["c001/1", "c001/1", "c001/2", "c002/1", "c002/1"],
        frame=[0, 9, 3, 0, 5],
        time=[time + n for n in (0, 1, 2, 30, 31)],
        box=[[0, 0, 10, 10], [20, 0, 30, 10], [5, 5, 9, 9], [0, 0, 8, 8], [0, 4, 8, 12]],
        vehicle_type=["car", "car", "bus", "car", "car"],
    )
    path = tmp_path / "trips.csv"
    path.write_text("trip,order,tracklet,camera,start,end\n7,1,c001/1,c001,0,1\n7,2,c002/1,c002,30,31\n")
    return records, path


def test_trips_become_boxes_with_global_ids(tmp_path: Path) -> None:
    boxes = boxes_of_trips(*site(tmp_path))
    assert boxes.identity.tolist() == [1, 1, 1, 1]
    assert boxes.frame.tolist() == [1, 10, 1, 6]  # videos count from 0, text files from 1
    assert boxes.camera.tolist() == ["c001", "c001", "c002", "c002"]
    records, trips = site(tmp_path)
    trips.write_text("trip,tracklet\n7,elsewhere\n")
    with pytest.raises(InputError, match="none of its tracklets is in the records"):
        boxes_of_trips(records, trips)


def test_trips_become_events(tmp_path: Path) -> None:
    write_otevents(tmp_path / "site.otevents", *site(tmp_path))
    content = json.loads(bz2.decompress((tmp_path / "site.otevents").read_bytes()))
    assert content["metadata"] == {"section_file_version": "0.0", "event_file_version": "0.0"}
    events = content["event_list"]
    assert [(e["hostname"], e["event_type"]) for e in events] == [
        ("c001", "enter-scene"),
        ("c001", "leave-scene"),
        ("c002", "enter-scene"),
        ("c002", "leave-scene"),
    ]
    assert {e["road_user_id"] for e in events} == {"1"} and {e["road_user_type"] for e in events} == {"car"}
    assert events[0]["occurrence"] == "2023-11-14 22:13:20.250000"
    assert (events[1]["event_coordinate"], events[1]["direction_vector"]) == ([25, 5], [20, 0])
    assert [e["frame_number"] for e in events] == [1, 10, 1, 6] and events[2]["video_name"] == "c002.mp4"
    with pytest.raises(InputError, match=r"have no times; give the start of each camera in cameras.csv"):
        write_otevents(tmp_path / "x.otevents", *site(tmp_path, time=np.nan))

"""Folders of crops with camera, time and track in their names; tables of boxes in videos; absent times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.small_videos import write_video
from vreid.data.doctor import examine
from vreid.data.images import read_image
from vreid.data.open import open_dataset
from vreid.errors import InputError

NOON = 1777636800.0


def crop(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(sum(map(ord, path.name))).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_frigate(tmp_path: Path) -> None:
    for name in ("north-1777636800.5-abc123.jpg", "south_1-1777636801.25-def456-clean.png"):
        crop(tmp_path / name)
    dataset = open_dataset(tmp_path)
    records = dataset.gallery
    assert records.camera.values.tolist() == ["north", "south_1"] and records.identity.distinct == 0
    assert records.tracklet.values.tolist() == ["north/abc123", "south_1/def456"]
    assert records.time.tolist() == [NOON + 0.5, NOON + 1.25] and not dataset.local_times


def test_iso_times_and_a_folder_a_camera(tmp_path: Path) -> None:
    crop(tmp_path / "north" / "2026-05-01T12-00-00Z_7.jpg")
    crop(tmp_path / "north" / "2026-05-01T12-00-01Z.jpg")
    crop(tmp_path / "south" / "20260501T120000_7.jpg")
    crop(tmp_path / "south" / "other.jpg")
    dataset = open_dataset(tmp_path)
    records = dataset.gallery
    assert records.camera.values.tolist() == ["north", "north", "south", ""]
    assert records.tracklet.values.tolist() == ["north/7", "", "south/7", ""]
    assert records.time[:3].tolist() == [NOON, NOON + 1, NOON] and dataset.local_times == ("south",)
    assert "1 of 4 images name no camera and time, first other.jpg." in dataset.notes


@pytest.mark.parametrize("name", ["0002_c002_00030600_0", "7_20261301T120000", "red_taxi"])
def test_other_names_are_vehicles(name: str, tmp_path: Path) -> None:
    crop(tmp_path / "a" / f"{name}.jpg")
    crop(tmp_path / "b" / f"{name}.jpg")
    assert open_dataset(tmp_path).gallery.identity.names.tolist() == ["a", "b"]


def test_a_table_of_boxes_in_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    table = tmp_path / "boxes.csv"
    rows = ("path,frame,x1,y1,x2,y2,camera,track_id", "north.mp4,0,1,1,9,9,n,7", "north.mp4,5,1,1,9,9,n,7")
    table.write_text("\n".join((*rows, "north.mp4,5,70,1,79,9,n,8")))
    with pytest.raises(ValueError, match=r"line 4: box \(70, 1, 79, 9\) lies outside its image of 64 x 48 pixels"):
        open_dataset(table)
    table.write_text("\n".join(rows))
    records = open_dataset(table).gallery
    assert records.image_key.tolist() == ["north.mp4/000000#1,1,9,9", "north.mp4/000005#1,1,9,9"]


def test_check_says_when_times_are_absent(tmp_path: Path) -> None:
    for name in ("a", "b_2026-05-01_07-00-00"):
        write_video(tmp_path / f"{name}.mp4")
        (tmp_path / f"{name}.txt").write_text("1,7,10,20,30,15\n")
    notes: list[str] = []
    assert examine(open_dataset(tmp_path), on_note=notes.append) == []
    (note,) = notes
    assert note.startswith("cameras without times: a. A store of them (vreid ingest) has no filter by time")
    assert note.endswith(
        "cameras.csv: camera,start,frame_rate,time_zone,latitude,longitude and a line such as "
        "a,2026-05-01T07:00:00,25,Europe/Berlin,52.5170,13.3889."
    )


def test_check_reads_the_table_of_cameras_beside_videos(tmp_path: Path) -> None:
    write_video(tmp_path / "site" / "a.mp4")
    (tmp_path / "site" / "a.txt").write_text("1,7,10,20,30,15\n")
    (tmp_path / "cameras.csv").write_text("camera,start\na,2026-05-01\n")
    notes: list[str] = []
    assert examine(open_dataset(tmp_path), on_note=notes.append) == [] and not notes
    (tmp_path / "cameras.csv").write_text("camera,start\na,2026-05-01\nb,noon\n")
    (finding,) = examine(open_dataset(tmp_path), on_note=notes.append)
    assert finding.where == f"{tmp_path / 'cameras.csv'}, line 3" and finding.fix == "correct it or leave it empty"
    assert finding.message.startswith("start 'noon' is neither seconds since 1970") and len(notes) == 1


def test_reading_a_video_as_an_image_names_ingest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.mp4: is a video, and this command reads images; add it to a store with "):
        read_image(write_video(tmp_path / "a.mp4"))

"""What `vreid ingest` says of sources before it starts, and of those that it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from support.small_videos import write_video
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.store.sources import CameraOptions, ReadSource, read_source

pytest.importorskip("av")

BOXES = "".join(f"{frame},1,8,4,40,30,1,-1,-1,-1\n" for frame in range(1, 7))
MILLISECONDS = "1777636800000"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(source: Path, **options: object) -> ReadSource:
    findings: list[Finding] = []
    return read_source(source, options=CameraOptions(**options), on_finding=findings.append)  # type: ignore[arg-type]


def test_videos_without_boxes_are_named(tmp_path: Path) -> None:
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4")
    put(tmp_path / "a.txt", BOXES)
    assert "no boxes were read for 2 videos: b.mp4, c.mp4." in read(tmp_path).notes


def test_a_source_without_usable_boxes_says_why(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    put(tmp_path / "north.txt", "1.5,1,8,4,40,30\n2.5,1,8,4,40,30\n")
    with pytest.raises(InputError, match=r"2 problems; list them with `vreid check .*north.txt, line 1: frame 1.5"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "is empty; name a folder"),
        (("north.txt",), "north.txt: is tracker output .* put the video of the same name beside it"),
        (("north.mp4",), "holds 1 video without boxes .north.txt of a tracker beside north.mp4.; run a tracker first"),
    ],
)
def test_folders_that_lack_something(files: tuple[str, ...], message: str, tmp_path: Path) -> None:
    for name in files:
        if name.endswith(".mp4"):
            write_video(tmp_path / name)
        else:
            put(tmp_path / name, BOXES)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_times_of_a_table_are_in_the_zone_of_the_camera(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    table = put(
        tmp_path / "t.csv",
        "path,frame,left,top,right,bottom,camera,tracklet,time\n"
        "north.mp4,0,8,4,48,34,north,north/1,2026-05-01T07:00:00\n",
    )
    assert read(table, time_zone="Europe/Berlin").records.time[0] == 1777611600.0
    found = read(table)
    assert found.records.time[0] == 1777618800.0
    assert "times of camera north name no time zone and are taken as UTC; give the time_zone." in found.notes


def test_milliseconds_are_no_times(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    put(tmp_path / "north.txt", BOXES)
    with pytest.raises(InputError, match=r"--start 1777636800000: is too large .* divide milliseconds by 1000"):
        read(tmp_path, start=MILLISECONDS)
    table = put(
        tmp_path / "table" / "t.csv",
        "path,frame,left,top,right,bottom,camera,tracklet,time\n"
        f"../north.mp4,0,8,4,48,34,north,north/1,{MILLISECONDS}\n",
    )
    found = read(table)
    assert any("times after 2100 are not used" in note for note in found.notes)
    assert found.summaries[0].start is None


def test_the_frame_rate_of_a_video_is_that_of_its_time_stamps(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4", rate=10)
    put(tmp_path / "north.txt", BOXES)
    found = read(tmp_path, start="2026-05-01T07:00:00", frame_rate=5)
    assert found.summaries[0].frame_rate == 10
    assert any("frame rate 5 of camera north is not used" in note for note in found.notes)


def test_an_offset_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--offset nan"):
        read(tmp_path, offset=float("nan"))


def test_queries_that_are_in_the_gallery_are_read_once(tmp_path: Path) -> None:
    from vreid.simulator import simulate

    world = simulate(tmp_path / "veri", preset="tiny", layout="veri", seed=1, workers=1).path
    records = read(world).records
    dataset = open_dataset(world)
    images = {*dataset.train.image_key, *dataset.query.image_key, *dataset.gallery.image_key}
    assert set(records.image_key) == images and len(records) == len(images)


def test_crops_without_times_need_a_table_or_names(tmp_path: Path) -> None:
    for camera in ("c001", "c002"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"0001_{camera}_000001_0.jpg")
    (note,) = [note for note in read(tmp_path).notes if "no time" in note]
    assert note.startswith("cameras c001, c002: 2 of 2 boxes have no time; give a table of the images")

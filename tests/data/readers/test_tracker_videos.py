"""Text files of boxes beside videos: MOTChallenge, BoxMOT, CityFlow's layout, seqinfo.ini."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.small_videos import write_video
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.errors import InputError

MOT = "1,7,10,20,30,15,1,-1,-1,-1\n6,7,12,20,30,15,1,-1,-1,-1\n"
# boxmot 25.0.0: MotSink.write of two tracks on frames 0 and 1 (frame, id, left, top, width, height, score, class, -1)
BOXMOT = """1,1,10.5,20.25,30.0,15.0,0.8999999761581421,2,-1
1,2,0.0,0.0,12.0,10.0,0.5,7,-1
2,1,12.125,20.0,30.0,15.0,0.8999999761581421,2,-1
"""


def opened(source: Path) -> tuple[Dataset, list[str]]:
    findings: list[Finding] = []
    dataset = open_dataset(source, on_finding=findings.append)
    return dataset, [str(finding) for finding in findings]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["", "north.txt", "north.mp4"])
def test_video_beside_its_boxes(name: str, tmp_path: Path) -> None:
    video, _ = write_video(tmp_path / "north.mp4"), put(tmp_path / "north.txt", MOT)
    put(tmp_path / "cameras.csv", "camera,start\nnorth,2026-05-01\n")  # is no table of images
    put(tmp_path / "truth.csv", "camera,tracklet,vehicle\n")
    records = open_dataset(tmp_path / name).gallery
    assert records.path.tolist() == [str(video)] * 2 and records.frame.tolist() == [0, 5]
    assert records.image_key.tolist() == ["north/000000/7", "north/000005/7"]
    assert records.tracklet.values.tolist() == ["north/7"] * 2 and records.box[0].tolist() == [10, 20, 40, 35]


def test_frames_count_from_0_where_there_is_a_frame_0(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    put(tmp_path / "north.txt", MOT.replace("6,", "5,", 1).replace("1,7", "0,7", 1))
    assert open_dataset(tmp_path).gallery.frame.tolist() == [0, 5]


@pytest.mark.parametrize("header", ["frame,id,bb_left,bb_top,bb_width,bb_height,conf,x,y,z", "Frame,ID,x,y,w,h,score"])
def test_a_header_is_no_box(header: str, tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    put(tmp_path / "north.txt", f"{header}\n{MOT}")
    plain, faults = opened(tmp_path)
    assert not faults and len(plain.gallery) == len(MOT.splitlines())


def test_a_header_of_other_columns_is_reported(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    put(tmp_path / "north.txt", f"frame,id,x1,y1,x2,y2,conf,class,a,b\n{MOT}")
    assert "write frame,id,left,top,width,height" in opened(tmp_path)[1][0]


def test_boxes_after_the_end_of_the_video(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    put(tmp_path / "north.txt", MOT + "7,7,12,20,30,15\n8,7,12,20,30,15\n")
    dataset, findings = opened(tmp_path)
    assert len(dataset.gallery) == 2 and len(findings) == 1
    assert "north.txt, line 3: frame 7 and 1 later boxes come after the end of north.mp4, which has 6" in findings[0]


def test_boxmot(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4")
    put(tmp_path / "north.txt", BOXMOT)
    records = open_dataset(tmp_path).gallery
    assert records.tracklet.values.tolist() == ["north/1", "north/2", "north/1"]
    assert records.frame.tolist() == [0, 0, 1] and records.box[0].tolist() == [10.5, 20.25, 40.5, 35.25]
    put(tmp_path / "north.txt", "1,1,0,0,9,0,9,9,0,9,0.9,2,0\n")
    assert "has 13 numbers: the corners of a rotated box" in opened(tmp_path)[1][0]


def test_a_video_with_drawn_boxes_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "tracks.mp4")
    put(tmp_path / "tracks.txt", BOXMOT)
    assert "may be the video into which BoxMOT draws boxes" in open_dataset(tmp_path).notes[0]


def test_names_of_recordings_and_folders(tmp_path: Path) -> None:
    for place in ("a/x_FR20_2020-01-01_00-00-00", "a/x_FR20_2020-01-01_00-15-00", "b/b"):
        write_video(tmp_path / f"{place}.mp4")
        put(tmp_path / f"{place}.txt", MOT)
    records = open_dataset(tmp_path).gallery
    assert sorted(records.camera.names) == ["b", "x"]
    assert sorted(records.tracklet.names) == ["b/7", "x/2020-01-01_00-00-00/7", "x/2020-01-01_00-15-00/7"]
    write_video(tmp_path / "a" / "b.mp4")  # another camera of the name
    put(tmp_path / "a" / "b.txt", MOT)
    assert sorted(open_dataset(tmp_path).gallery.camera.names) == ["a/b", "b/b", "x"]


def test_cityflow_without_frames(tmp_path: Path) -> None:
    for camera in ("c001", "c002"):
        place = tmp_path / "train" / "S01" / camera
        write_video(place / "vdo.avi")
        put(place / "gt" / "gt.txt", MOT)
    dataset, findings = opened(tmp_path)
    assert not findings and dataset.gallery.identity.distinct == 1 and dataset.gallery.camera.distinct == 2
    assert {Path(path).name for path in dataset.gallery.path} == {"vdo.avi"}
    (tmp_path / "train" / "S01" / "c001" / "vdo.avi").write_bytes(b"RIFF\0\0\0\0AVI ")
    dataset, findings = opened(tmp_path)
    assert dataset.gallery.camera.names.tolist() == ["c001", "c002"] or dataset.gallery.camera.distinct == 1
    assert len(findings) == 1 and "c001/vdo.avi: its frames are not extracted (img1 holds none)" in findings[0]
    assert "ffmpeg -i vdo.avi -start_number 1" in findings[0] and "vreid ingest" in findings[0]


def test_seqinfo(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    place = tmp_path / "seq1"
    for frame in (1, 2, 3, 4, 5, 6):
        path = place / "frames" / f"{frame:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 64, 3), 9 * frame, dtype=np.uint8)).save(path)
    (place / "frames" / "thumb9.jpg").write_bytes(b"")
    put(place / "seqinfo.ini", "[Sequence]\nname=North\nimDir=frames\nframeRate=10\nseqLength=7\nimExt=.png\n")
    put(place / "gt" / "gt.txt", MOT)
    dataset, findings = opened(tmp_path)
    assert not findings and dataset.gallery.camera.names.tolist() == ["North"]
    assert [Path(path).name for path in dataset.gallery.path] == ["000001.png", "000006.png"]
    assert "seqinfo.ini of camera North says 7 frames, but there are 6." in dataset.notes
    put(place / "seqinfo.ini", "frameRate=10\n")
    with pytest.raises(InputError, match=r"seqinfo.ini: has no section \[Sequence\]"):
        open_dataset(tmp_path)


def test_a_video_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a video without boxes; .*vreid ingest --detector"):
        open_dataset(write_video(tmp_path / "north.mp4"))


def test_without_pyav_frames_can_be_extracted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c001").mkdir()
    (tmp_path / "c001" / "vdo.avi").write_bytes(b"RIFF")
    put(tmp_path / "c001" / "gt" / "gt.txt", MOT)
    monkeypatch.setitem(sys.modules, "av", None)
    findings = opened(tmp_path)[1]
    assert len(findings) == 1 and "it cannot be read without PyAV" in findings[0] and "ffmpeg -i vdo.avi" in findings[0]

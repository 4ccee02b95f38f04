"""Boxes on full frames: tracker output as of the MOTChallenge, and detector tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vreid.data.augment import TestTransform
from vreid.data.findings import Finding
from vreid.data.loading import test_loader
from vreid.data.open import open_dataset
from vreid.data.protocols import CROSS_CAMERA
from vreid.data.records import UNKNOWN
from vreid.errors import InputError

GT = """1,7,10,20,30,15,1,-1,-1,-1
2,7,12.5,20,30,15,1,-1,-1,-1
1,8,0,0,5,5,1,-1,-1,-1
2,9,0,0,5,5,0,-1,-1,-1
"""
DET = "2 -1 10 5 4 4 0.93\r\n\r\n1 -1 -3 -3 8 8 0.51\r\n1 -1 60 30 90 90 0.5\r\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cameras"
    for camera in ("c001", "c002"):
        (folder / camera / "img1").mkdir(parents=True)
        for frame in (1, 2):
            image = np.full((40, 64, 3), 100 * frame, dtype=np.uint8)
            Image.fromarray(image).save(folder / camera / "img1" / f"{frame:06d}.png")
    (folder / "c001" / "gt").mkdir()
    (folder / "c001" / "gt" / "gt.txt").write_text(GT)
    (folder / "c002" / "det").mkdir()
    (folder / "c002" / "det" / "det.txt").write_text(DET, newline="")
    return folder


def test_as_trackers_write(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert dataset.name == "cameras" and dataset.protocol == CROSS_CAMERA
    assert dataset.query is dataset.gallery and not len(dataset.train)
    records = dataset.gallery
    assert records.image_key.tolist() == [
        "c001/000001/7",
        "c001/000001/8",
        "c001/000002/7",
        "c002/000001#-3,-3,5,5",
        "c002/000001#60,30,150,120",
        "c002/000002#10,5,14,9",
    ]
    assert records.tracklet.values.tolist() == ["c001/7", "c001/8", "c001/7", "", "", ""]
    assert records.camera.values.tolist() == ["c001"] * 3 + ["c002"] * 3
    assert records.frame.tolist() == [1, 1, 2, 1, 1, 2] and set(records.identity.codes) == {UNKNOWN}
    assert records.box[:3].tolist() == [[10, 20, 40, 35], [0, 0, 5, 5], [12.5, 20, 42.5, 35]]
    assert records.path[2] == str(folder / "c001/img1/000002.png")
    assert dataset.where("gallery", 1) == f"{folder / 'c001/gt/gt.txt'}, line 3"
    assert dataset.where("query", 3) == f"{folder / 'c002/det/det.txt'}, line 3"
    assert dataset.notes == (f"ignored lines (flag 0) in {folder / 'c001/gt/gt.txt'}: 1.",)


def test_the_boxes_are_cut_out_while_loading(folder: Path) -> None:
    loader = test_loader(open_dataset(folder).gallery, TestTransform(4, 4, mean=(0, 0, 0), std=(1, 1, 1)), workers=0)
    shown = torch.cat([batch.images for batch in loader]).mean(dim=(1, 2, 3)) * 255
    assert shown.round().int().tolist() == [100, 100, 200, 100, 100, 200]  # also those that reach over the border


@pytest.mark.parametrize("place", ["c002/c002.txt", "c002.txt"])
def test_a_file_named_as_its_camera(folder: Path, place: str) -> None:
    (folder / place).write_text("1,3,0,0,9,9,1,-1,-1,-1\n")
    dataset = open_dataset(folder)
    assert dataset.gallery.tracklet.values.tolist() == ["c001/7", "c001/8", "c001/7", "c002/3"]
    assert dataset.notes[-1] == "boxes of camera c002 are those of c002.txt, not of det.txt."


def test_one_camera_and_cameras_without_boxes(folder: Path) -> None:
    (folder / "c001/gt/gt.txt").unlink()
    note = "there is one camera only, so cross-camera search is not possible."
    assert open_dataset(folder).notes == ("there are no boxes for camera c001, its frames are not used.", note)
    one = open_dataset(folder / "c002")
    assert one.name == "c002" and len(one.gallery) == 3 and one.notes == (note,)


@pytest.mark.parametrize(
    ("line", "check", "sentence"),
    [
        ("1,5,3", "label", "is '1,5,3'; write frame,id,left,top,width,height, all numbers."),
        ("1,five,0,0,5,5", "label", "is '1,five,0,0,5,5'; write frame,id,left,top,width,height, all numbers."),
        ("-1,5,0,0,5,5", "label", "is '-1,5,0,0,5,5'; a frame is a number from 0, and corners are finite."),
        ("1,5,0,0,inf,5", "label", "is '1,5,0,0,inf,5'; a frame is a number from 0, and corners are finite."),
        ("1,5,9,9,0,5", "label", "gives a box of 0 x 5 pixels; correct it."),
        ("1,7,9,9,5,5", "duplicate entry", "frame 1 has this id or box already in line 1; remove one."),
        (
            "2,5,64,9,5,5",
            "box outside image",
            "box (64, 9, 69, 14) lies outside its image of 64 x 40 pixels; correct it or remove the row.",
        ),
        (
            "2,5,-8,9,8,5",
            "box outside image",
            "box (-8, 9, 0, 14) lies outside its image of 64 x 40 pixels; correct it or remove the row.",
        ),
    ],
)
def test_wrong_boxes_are_reported_with_line_and_fix(folder: Path, line: str, check: str, sentence: str) -> None:
    path = folder / "c001/gt/gt.txt"
    path.write_text(f"{GT}{line}\n")
    with pytest.raises(InputError) as caught:
        open_dataset(folder)
    assert str(caught.value) == f"{path}, line 5: {sentence}"
    findings: list[Finding] = []
    assert len(open_dataset(folder, on_finding=findings.append).gallery) == 6
    assert [(finding.check, str(finding)) for finding in findings] == [(check, str(caught.value))]


def test_no_frames_and_no_boxes_are_rejected(folder: Path) -> None:
    (folder / "c001/gt/gt.txt").write_text("\n")
    (folder / "c002/det/det.txt").write_text("")
    with pytest.raises(InputError, match=r"cameras: holds no boxes \(gt/gt.txt, det/det.txt or <camera>.txt\)"):
        open_dataset(folder)
    (folder / "c001/gt/gt.txt").write_text(GT)
    for frame in (folder / "c001/img1").iterdir():
        frame.unlink()
    with pytest.raises(InputError, match=r"img1: holds no images; put the frames there, as 000001.jpg and so on"):
        open_dataset(folder)


# ---------------------------------------------------------------- detector tables


@pytest.mark.parametrize(
    "header", ["frame_path,x,y,w,h", "img,left,top,width,height", "file,xmin,ymin,W,H", "path,X1,y1,Width,height"]
)
def test_detector_tables_are_cut_out_of_their_frames(folder: Path, header: str) -> None:
    header = header.replace("frame_path", "path")
    (folder / "boxes.csv").write_text(f"{header}\nc001/img1/000001.png,-5,-5,20,20\nc002/img1/000002.png,60,30,9,9\n")
    records = open_dataset(folder / "boxes.csv").gallery
    assert records.box.tolist() == [[-5, -5, 15, 15], [60, 30, 69, 39]]
    images = next(iter(test_loader(records, TestTransform(4, 4, mean=(0, 0, 0), std=(1, 1, 1)), workers=0))).images
    assert (images.mean(dim=(1, 2, 3)) * 255).round().int().tolist() == [100, 200]


def test_a_box_outside_its_image_is_reported_by_its_line(folder: Path) -> None:
    table = folder / "boxes.csv"
    rows = [
        "c001/img1/000001.png,0,0,20,20",
        "c001/img1/000001.png,64,0,20,20",
        "c001/img1/000009.png,999,0,20,20",
        "c001/img1/000002.png,,,,",
        "c001/img1/000002.png,0,-20,20,20",
    ]
    table.write_text("\n".join(["path,x,y,w,h", *rows]))
    with pytest.raises(InputError) as caught:
        open_dataset(table)
    assert str(caught.value) == (
        f"{table}, line 3: box (64, 0, 84, 20) lies outside its image of 64 x 40 pixels; correct it or remove the row."
    )
    findings: list[Finding] = []
    dataset = open_dataset(table, on_finding=findings.append)
    assert [finding.where for finding in findings] == [f"{table}, line 3", f"{table}, line 6"]
    assert len(dataset.gallery) == 3  # an image that is missing is for the doctor, who reads every image


def test_the_size_of_a_turned_image_is_that_of_the_upright_one(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 40)).save(folder / "turned.jpg", exif=exif)  # 40 x 64 when upright
    (folder / "boxes.csv").write_text("path,x,y,w,h\nturned.jpg,0,50,20,10\n")
    assert len(open_dataset(folder / "boxes.csv").gallery) == 1
    (folder / "boxes.csv").write_text("path,x,y,w,h\nturned.jpg,50,0,10,20\n")
    with pytest.raises(InputError, match="outside its image of 40 x 64 pixels"):
        open_dataset(folder / "boxes.csv")

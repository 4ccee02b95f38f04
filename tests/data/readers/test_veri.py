"""VeRi-776, from files typed by hand after the description of the distributed ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.data.protocols import VERI, Exclusion
from vreid.data.readers.veri import read_veri, read_views
from vreid.data.records import JUNK, UNKNOWN
from vreid.errors import InputError

TRAIN = ("0001_c001_00016450_0.jpg", "0001_c002_00016500_1.jpg", "0100_c003_00000010_0.jpg", "-1_c003_00000020_0.jpg")
QUERY = ("0002_c002_00030600_0.jpg", "0005_c001_00001000_0.jpg")
TEST = (
    "0002_c002_00030600_0.jpg",
    "0002_c002_00030605_1.jpg",
    "0005_c004_00002000_0.jpg",
    "0002_c019_00040000_0.jpg",
    "0005_c001_00001010_0.jpg",
)
TRAIN_XML = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="4">
    <Item imageName="0001_c001_00016450_0.jpg" vehicleID="0001" cameraID="c001" colorID="1" typeID="9"/>
    <Item imageName="0001_c002_00016500_1.jpg" vehicleID="0001" cameraID="c002" colorID="1" typeID="9"/>
    <Item imageName="0100_c003_00000010_0.jpg" vehicleID="0100" cameraID="c003" colorID="10" typeID="1"/>
    <Item imageName="-1_c003_00000020_0.jpg" vehicleID="-1" cameraID="c003" colorID="5" typeID="7"/>
  </Items>
</TrainingImages>
"""
TEST_XML = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="5">
    <Item imageName="0002_c002_00030600_0.jpg" vehicleID="0002" cameraID="c002" colorID="4" typeID="2"/>
    <Item imageName="0002_c002_00030605_1.jpg" vehicleID="0002" cameraID="c002" colorID="4" typeID="2"/>
    <Item imageName="0005_c004_00002000_0.jpg" vehicleID="0005" cameraID="c004" colorID="8" typeID="6"/>
    <Item imageName="0002_c019_00040000_0.jpg" vehicleID="0002" cameraID="c019" colorID="4" typeID="2"/>
    <Item imageName="0005_c001_00001010_0.jpg" vehicleID="0005" cameraID="c001" colorID="8" typeID="6"/>
  </Items>
</TrainingImages>
"""
FILES = {
    "name_train.txt": "\n".join(TRAIN) + "\n",
    "name_query.txt": "\r\n".join(QUERY) + "\r\n",
    "name_test.txt": "\n".join(TEST),
    "train_label.xml": TRAIN_XML,
    "test_label.xml": TEST_XML,
    "gt_index.txt": "4 \n3 \n",  # counted from 1, with a trailing blank
    "jk_index.txt": "1 2 \n5 \n",
    "test_track.txt": "0002_c002_t0175 0002_c002_00030600_0.jpg 0002_c002_00030605_1.jpg \n"
    "0005_c004_t0176 0005_c004_00002000_0.jpg \n"
    "0002_c019_t0177 0002_c019_00040000_0.jpg \n0005_c001_t0178 0005_c001_00001010_0.jpg \n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "VeRi"
    for name, images in (("image_train", TRAIN), ("image_query", QUERY), ("image_test", TEST)):
        (folder / name).mkdir(parents=True)
        for image in images:
            Image.new("RGB", (6, 4)).save(folder / name / image)
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode("gb2312"))
    return folder


def reported(folder: Path) -> list[Finding]:
    findings: list[Finding] = []
    open_dataset(folder, on_finding=findings.append)
    return findings


def test_as_distributed(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert (
        dataset.name == "VeRi-776"
        and dataset.notes
        == ("without colour and type, since query_label.xml does not list them: 2 of 2 images, first ",)[:0]
    )
    train = dataset.train
    assert train.image_key.tolist() == [name[:-4] for name in TRAIN]
    assert train.path[0] == str(folder / "image_train" / TRAIN[0])
    assert train.identity.values.tolist() == ["0001", "0001", "0100", "junk"] and train.identity.codes[3] == JUNK
    assert train.camera.values.tolist() == ["c001", "c002", "c003", "c003"]
    assert train.color.values.tolist() == ["yellow", "yellow", "black", "red"]
    assert train.vehicle_type.values.tolist() == ["estate", "estate", "sedan", "bus"]
    assert train.frame.tolist() == [16450, 16500, 10, 20] and set(train.tracklet.codes) == {UNKNOWN}
    gallery = dataset.gallery
    assert gallery.image_key.tolist() == [name[:-4] for name in TEST]
    assert gallery.identity.values.tolist() == ["0002", "0002", "0005", "0002", "0005"]
    assert gallery.color.values.tolist() == ["gray", "gray", "golden", "gray", "golden"]
    assert gallery.tracklet.values.tolist() == [
        "0002_c002_t0175",
        "0002_c002_t0175",
        "0005_c004_t0176",
        "0002_c019_t0177",
        "0005_c001_t0178",
    ]
    assert dataset.query.identity.values.tolist() == ["0002", "0005"]
    assert dataset.where("train", 1) == f"{folder / 'name_train.txt'}, line 2"
    assert dataset.where("gallery", 4) == f"{folder / 'name_test.txt'}, line 5"


def test_the_protocol_removes_what_the_jk_lists_name(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert dataset.protocol == replace(
        VERI,
        junk={
            "0002_c002_00030600_0": ("0002_c002_00030600_0", "0002_c002_00030605_1"),
            "0005_c001_00001000_0": ("0005_c001_00001010_0",),
        },
    )
    assert dataset.fingerprint() != replace(dataset, protocol=VERI).fingerprint()
    assert Exclusion(dataset.query, dataset.gallery, dataset.protocol).removed(0).tolist() == [0, 1]


@pytest.mark.parametrize("spelling", ["index_776", "image"])
def test_index_files_have_other_names_and_may_hold_names(folder: Path, spelling: str) -> None:
    before = open_dataset(folder).protocol
    (folder / "gt_index.txt").unlink()
    (folder / "jk_index.txt").unlink()
    if spelling == "image":
        (folder / "gt_image.txt").write_text(f"{TEST[3]} \n{TEST[2]} \n")
        (folder / "jk_image.txt").write_text(f"{TEST[0]} {TEST[1]} \n{TEST[4]} \n")
    else:
        (folder / "gt_index_776.txt").write_text("4\n3\n")
        (folder / "jk_index_776.txt").write_text("1 2\n5\n")
    assert open_dataset(folder).protocol == before


@pytest.mark.parametrize(
    ("name", "text", "where", "message"),
    [
        (
            "gt_index.txt",
            "3 \n3 \n",
            "line 1",
            "3 is 0005_c004_00002000_0, another vehicle than that of query 0002_c002_00030600_0",
        ),
        (
            "gt_index.txt",
            "4 2 \n3 \n",
            "line 1",
            "2 is 0002_c002_00030605_1, in the camera of query 0002_c002_00030600_0",
        ),
        (
            "jk_index.txt",
            "1 2\n3 5\n",
            "line 2",
            "3 is 0005_c004_00002000_0, in another camera than that of query 0005_c001_00001000_0",
        ),
        ("jk_index.txt", "1 2\n6\n", "line 2", "'6' is not a gallery image"),
        ("jk_index.txt", "1 2\n0\n", "line 2", "'0' is not a gallery image"),
        ("jk_index.txt", "1 2\n5\n1\n", "line 3", "there are only 2 queries"),
    ],
)
def test_index_files_that_contradict_the_names_are_reported(
    folder: Path, name: str, text: str, where: str, message: str
) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InputError) as caught:
        open_dataset(folder)
    assert str(caught.value).startswith(f"{folder / name}, {where}: {message}; ")
    (finding,) = reported(folder)
    assert (finding.check, finding.where) == ("label", f"{folder / name}, {where}")
    good = {"0002_c002_00030600_0": {TEST[0][:-4], TEST[1][:-4]}, "0005_c001_00001000_0": {TEST[4][:-4]}}
    junk = read_veri(folder, on_finding=lambda finding: None).protocol.junk
    assert all(set(keys) <= good[query] for query, keys in junk.items())  # what is wrong is not removed


def test_index_files_that_leave_images_out_are_noted(folder: Path) -> None:
    gallery = (*TEST, "0002_c007_00000001_0.jpg")
    Image.new("RGB", (6, 4)).save(folder / "image_test" / gallery[-1])
    (folder / "name_test.txt").write_text("\n".join(gallery))
    assert open_dataset(folder).notes[-1] == (
        "gt_index.txt leaves out images of the query's vehicle in other cameras: 1 queries, first 0002_c002_00030600_0."
    )
    (folder / "gt_index.txt").write_text("4 6 \n3 \n")
    assert not any("leaves out" in note for note in open_dataset(folder).notes)


def test_without_labels_and_lists_the_names_tell(folder: Path) -> None:
    for name in FILES:
        if name != "name_test.txt":
            (folder / name).unlink()
    dataset = open_dataset(folder)
    assert dataset.train.identity.values.tolist() == ["0001", "0001", "0100", "junk"]  # natural order of the folder
    assert dataset.train.color.distinct == 0 and dataset.protocol == VERI
    assert dataset.where("train", 0) == str(folder / "image_train" / TRAIN[0]) and "train" not in dataset.origins
    assert dataset.notes == (
        "there is no name_train.txt, so all images in image_train are read.",
        "there is no name_query.txt, so all images in image_query are read.",
        "there is no test_track.txt, so the tracklets of image_test are unknown.",
    )


def test_without_lists_the_label_file_lists(folder: Path) -> None:
    (folder / "name_train.txt").unlink()
    dataset = open_dataset(folder)
    assert dataset.train.image_key.tolist() == [name[:-4] for name in TRAIN]
    assert dataset.where("train", 2) == f"{folder / 'train_label.xml'}, Item 3"


def test_fewer_labelled_images_are_noted(folder: Path) -> None:
    lines = TRAIN_XML.splitlines(keepends=True)
    (folder / "train_label.xml").write_text("".join(lines[:4] + lines[5:]))
    dataset = open_dataset(folder)
    assert dataset.train.color.values.tolist() == ["yellow", "", "black", "red"]
    assert dataset.notes == (
        f"without colour and type, since train_label.xml does not list them: 1 of 4 images, first {TRAIN[1]}.",
    )


def test_the_name_of_a_image_counts_more_than_its_label(folder: Path) -> None:
    (folder / "train_label.xml").write_text(TRAIN_XML.replace('vehicleID="0100"', 'vehicleID="0101"'))
    dataset = open_dataset(folder)
    assert dataset.train.identity.values[2] == "0100"
    assert dataset.notes == (
        "train_label.xml contradicts the vehicle or camera in the file name; the file name is used: 1 of 4 "
        "images, first "
        "0100_c003_00000010_0.jpg.",
    )


def test_the_lists_of_classes_override_the_names(folder: Path) -> None:
    (folder / "list_color.txt").write_text("1 lemon\n10\tInk Black\n")
    (folder / "list_type.txt").write_text("1, saloon\n")
    train = open_dataset(folder).train
    assert train.color.values.tolist() == ["lemon", "lemon", "ink black", "red"]
    assert train.vehicle_type.values.tolist() == ["estate", "estate", "saloon", "bus"]
    (folder / "list_type.txt").write_text("saloon\n")
    with pytest.raises(InputError, match=r"list_type.txt, line 1: is 'saloon'; write a number and a name, like 1 yel"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("old", "new", "check", "sentence"),
    [
        (
            'colorID="10"',
            'colorID="11"',
            "label out of range",
            "Item 3: colorID 11 is not between 1 and 10; correct it.",
        ),
        ('typeID="7"', 'typeID="-1"', "label out of range", "Item 4: typeID -1 is not between 1 and 9; correct it."),
        (
            'colorID="10"',
            'colorID="0"',
            "colour/type numbering",
            "Item 3: colorID is 0, but this data set numbers colours and types from 1; correct the numbers.",
        ),
        ('colorID="10"', 'colorID="x"', "label", "Item 3: colorID 'x' is not a number; correct it."),
        (
            'imageName="0100_c003_00000010_0.jpg"',
            'imageName="0001_c002_00016500_1"',
            "duplicate entry",
            "Item 3: image 0001_c002_00016500_1 is already in Item 2; remove one.",
        ),
        (
            '<Item imageName="0100_c003_00000010_0.jpg" ',
            "<Item ",
            "label",
            "Item 3: has no imageName; add it or remove the Item.",
        ),
    ],
)
def test_wrong_labels_are_reported_with_row_and_fix(
    folder: Path, old: str, new: str, check: str, sentence: str
) -> None:
    assert old in TRAIN_XML
    (folder / "train_label.xml").write_text(TRAIN_XML.replace(old, new))
    with pytest.raises(InputError) as caught:
        open_dataset(folder)
    assert str(caught.value) == f"{folder / 'train_label.xml'}, {sentence}"
    (finding,) = reported(folder)
    assert (finding.check, str(finding)) == (check, str(caught.value))


def test_a_wrong_name_does_not_shift_what_index_files_count(folder: Path) -> None:
    (folder / "name_test.txt").write_text("\n".join([*TEST[:2], "nonsense.jpg", *TEST[2:], TEST[0]]))
    (folder / "gt_index.txt").write_text("5\n4\n")
    (folder / "jk_index.txt").write_text("1 2 7\n6\n")
    findings: list[Finding] = []
    dataset = open_dataset(folder, on_finding=findings.append)
    assert [(finding.check, finding.where) for finding in findings] == [
        ("label", f"{folder / 'name_test.txt'}, line 3"),
        ("duplicate entry", f"{folder / 'name_test.txt'}, line 7"),
    ]
    assert dataset.gallery.image_key.tolist() == [name[:-4] for name in TEST]
    assert dataset.where("gallery", 2) == f"{folder / 'name_test.txt'}, line 4"
    assert dataset.protocol.junk["0005_c001_00001000_0"] == ("0005_c001_00001010_0",)


def test_views_are_no_orientations(folder: Path) -> None:
    points = " ".join(["-1"] * 40)
    (folder / "keypoint_train.txt").write_text(
        f"/data/VeRi/image_train/{TRAIN[0]} {points} 3\n{TRAIN[1]} {points} 0 \n"
    )
    (folder / "keypoint_test.txt").write_text(f"VeRi\\image_test\\{TEST[0]} {points} 7\n")
    assert read_views(folder) == {TRAIN[0][:-4]: 3, TRAIN[1][:-4]: 0, TEST[0][:-4]: 7}
    assert not (open_dataset(folder).train.orientation >= 0).any()
    (folder / "keypoint_test.txt").write_text(f"{TEST[0]} {points} 8\n")
    with pytest.raises(InputError, match=r"keypoint_test.txt, line 1: '0002_.*jpg' ... '8' is not an image"):
        read_views(folder)
    with pytest.raises(InputError, match=r"has neither keypoint_train.txt nor keypoint_test.txt"):
        read_views(folder / "image_train")


def test_images_alone_are_a_folder_of_images(folder: Path) -> None:
    for name in FILES:
        (folder / name).unlink()
    dataset = open_dataset(folder)
    assert dataset.protocol.name == "market" and len(dataset.gallery) == 5

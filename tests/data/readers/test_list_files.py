"""VehicleID, VERI-Wild and VRIC, from files typed by hand after the description of the distributed ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.data.protocols import VEHICLE_ID, VERI_WILD, VRIC
from vreid.data.records import UNKNOWN
from vreid.errors import InputError

VEHICLEID = {
    "train_test_split/train_list.txt": "0000010 1\n0000002 1 \r\n0000003 77\n",
    "train_test_split/test_list_800.txt": "0000021 5\n0000022 5\n0000023 6\n",
    "train_test_split/test_list_2400.txt": "0000021.jpg 5\n0000024.jpg 9\n",
}
WILD = {
    "train_test_split/train_list.txt": "00001/000001.jpg\n00001/000002.jpg\n00002/000003.jpg\n",
    "train_test_split/test_3000_query.txt": "00009/000010\n",
    "train_test_split/test_3000.txt": "00009/000011\n00009/000012\n",
    "train_test_split/test_10000_query.txt": "00011/000020\n",
    "train_test_split/test_10000.txt": "00011/000021\n",
    "train_test_split/vehicle_info.txt": """\
id/image;Camera ID;Time;Model;Type;Color
00001/000001;7;1970-01-01 00:01:00;Audi A4;sedan;red
00001/000002;30;1970-01-02;Audi A4;sedan;红色
00002/000003;7;;;;
00009/000010;174;1970-01-01 00:00:01.5;x;SUV;blue
00009/000011;1;5;x;SUV;blue
00009/000012;2;6;x;SUV;blue
00011/000020;2
00011/000021;2
""",
}
VRIC_FILES = {
    "vric_train.txt": "000001.jpg 4 1\n000002.jpg 4 33\n000003.jpg 9 60\n",
    "vric_probe.txt": "000001.jpg 1 2\n",
    "vric_gallery.txt": "000001.jpg 1 5\n000002.jpg 3 5\n",
}


def make(folder: Path, files: Mapping[str, str], *images: str, encoding: str = "utf-8") -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode(encoding))
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(folder / image)
    return folder


@pytest.fixture
def vehicleid(tmp_path: Path) -> Path:
    images = [f"image/00000{number:02d}.jpg" for number in (2, 3, 10, 21, 22, 23, 24)]
    return make(tmp_path / "VehicleID_V1.0", VEHICLEID, *images)


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    keys = [line.partition(";")[0] for line in WILD["train_test_split/vehicle_info.txt"].splitlines()[1:]]
    return make(tmp_path / "VERI-Wild", WILD, *(f"images/{key}.jpg" for key in keys), encoding="gb2312")


@pytest.fixture
def vric(tmp_path: Path) -> Path:
    images = [
        f"{name}_images/{row.split()[0]}"
        for name in ("train", "probe", "gallery")
        for row in VRIC_FILES[f"vric_{name}.txt"].splitlines()
    ]
    return make(tmp_path / "VRIC", VRIC_FILES, *images)


# ---------------------------------------------------------------- VehicleID


def test_vehicleid_as_distributed(vehicleid: Path) -> None:
    dataset = open_dataset(f"{vehicleid.parent}@800")
    assert dataset.name == "VehicleID" and dataset.protocol == VEHICLE_ID and dataset.notes == ()
    assert dataset.train.image_key.tolist() == ["0000010", "0000002", "0000003"]
    assert dataset.train.identity.values.tolist() == ["1", "1", "77"]
    assert dataset.train.path[1] == str(vehicleid / "image/0000002.jpg")
    assert dataset.query is dataset.gallery  # the protocol draws galleries from it
    assert dataset.gallery.identity.values.tolist() == ["5", "5", "6"]
    assert set(dataset.gallery.camera.codes) == {UNKNOWN}
    assert dataset.where("train", 1) == f"{vehicleid / 'train_test_split/train_list.txt'}, line 2"
    assert dataset.where("query", 2) == f"{vehicleid / 'train_test_split/test_list_800.txt'}, line 3"


def test_the_test_list_of_vehicleid_is_chosen(vehicleid: Path) -> None:
    for chosen in (open_dataset(f"{vehicleid}@large"), open_dataset(vehicleid, test_list="2400")):
        assert chosen.gallery.image_key.tolist() == ["0000021", "0000024"] and chosen.notes == ()
    smallest = open_dataset(vehicleid)
    assert len(smallest.gallery) == 3
    assert smallest.notes == ("test list 800 of 800, 2400 is read; choose another by FOLDER@2400.",)
    with pytest.raises(InputError) as caught:
        open_dataset(f"{vehicleid}@1600")
    assert str(caught.value) == (f"{vehicleid}: has no '1600'; available: original, 800, 2400, small, large.")
    with pytest.raises(
        InputError, match="chooses 1 variants and 2 test lists; choose one variant or more, and one test list"
    ):
        open_dataset(f"{vehicleid}@800,2400")


def test_vehicleid_without_tests_or_training(vehicleid: Path) -> None:
    for size in (800, 2400):
        (vehicleid / f"train_test_split/test_list_{size}.txt").unlink()
    assert [len(open_dataset(vehicleid).train), len(open_dataset(vehicleid).gallery)] == [3, 0]
    (vehicleid / "train_test_split/train_list.txt").write_text("\n\n")
    with pytest.raises(InputError, match="lists no images; unpack the data set again"):
        open_dataset(vehicleid)


# ---------------------------------------------------------------- VERI-Wild


def test_veri_wild_as_distributed(wild: Path) -> None:
    dataset = open_dataset(f"{wild}@small")
    assert dataset.name == "VERI-Wild" and dataset.protocol == VERI_WILD and dataset.notes == ()
    train = dataset.train
    assert train.image_key.tolist() == ["00001/000001", "00001/000002", "00002/000003"]
    assert train.path[0] == str(wild / "images/00001/000001.jpg")
    assert train.identity.values.tolist() == ["00001", "00001", "00002"]
    assert train.camera.values.tolist() == ["c007", "c030", "c007"]
    assert train.time[:2].tolist() == [60.0, 86400.0] and np.isnan(train.time[2])
    assert train.color.values.tolist() == ["red", "红色", ""]
    assert train.vehicle_type.values.tolist() == ["sedan", "sedan", ""]
    assert dataset.query.camera.values.tolist() == ["c174"] and dataset.query.time[0] == 1.5
    assert dataset.gallery.image_key.tolist() == ["00009/000011", "00009/000012"]
    assert dataset.where("gallery", 1) == f"{wild / 'train_test_split/test_3000.txt'}, line 2"


def test_the_test_list_of_veri_wild_is_chosen(wild: Path) -> None:
    large = open_dataset(wild, test_list="large")
    assert large.query.identity.values.tolist() == large.gallery.identity.values.tolist() == ["00011"]
    (note,) = open_dataset(wild).notes
    assert note == "test list 3000 of 3000, 10000 is read; choose another by FOLDER@10000."
    with pytest.raises(InputError, match=r"no 'medium'; available: original, 3000, 10000, small, large\."):
        open_dataset(f"{wild}@medium")


def test_a_vehicle_info_without_header_or_with_other_columns(wild: Path) -> None:
    info = wild / "train_test_split/vehicle_info.txt"
    text = WILD["train_test_split/vehicle_info.txt"]
    before = open_dataset(f"{wild}@3000").train
    info.write_text(text.partition("\n")[2])
    assert open_dataset(f"{wild}@3000").train == before
    info.write_text("image;colour;cam_id\n00001/000001.jpg;red;7\n00001/000002.jpg;;30\n00002/000003;;7\n")
    train = open_dataset(f"{wild}@3000").train
    assert train.camera == before.camera and train.color.values.tolist() == ["red", "", ""]
    assert np.isnan(train.time).all()


def test_what_is_odd_in_vehicle_info_is_noted(wild: Path) -> None:
    info = wild / "train_test_split/vehicle_info.txt"
    info.write_text("id/image;Camera ID;Time\n00001/000001;7;noon\n00001/000002;30;13\n")
    dataset = open_dataset(f"{wild}@3000")
    assert dataset.train.camera.values.tolist() == ["c007", "c030", ""] and dataset.train.time[1] == 13
    assert dataset.notes == (
        "times in vehicle_info.txt that are neither seconds nor ISO 8601: 1, first 'noon'; they are unknown.",
        "not in vehicle_info.txt: 4 of 6 images, first 00002/000003.",
    )
    info.unlink()
    dataset = open_dataset(f"{wild}@3000")
    assert dataset.notes == ("there is no vehicle_info.txt, so cameras and times are unknown.",)


# ---------------------------------------------------------------- VRIC


@pytest.mark.parametrize("above", [".", ".."])
def test_vric_as_distributed(vric: Path, above: str) -> None:
    dataset = open_dataset(vric / above)
    assert dataset.name == "VRIC" and dataset.protocol == VRIC and dataset.notes == ()
    assert dataset.train.identity.values.tolist() == ["4", "4", "9"]
    assert dataset.train.camera.values.tolist() == ["c001", "c033", "c060"]
    assert dataset.query.image_key.tolist() == ["probe/000001"]
    assert dataset.gallery.image_key.tolist() == ["gallery/000001", "gallery/000002"]
    assert Path(dataset.query.path[0]).is_file() and "probe_images" in dataset.query.path[0]
    assert dataset.where("query", 0) == f"{Path(dataset.query.path[0]).parents[1] / 'vric_probe.txt'}, line 1"


def test_images_that_are_not_there_or_not_listed_are_noted(vric: Path) -> None:
    (vric / "train_images/000002.jpg").unlink()
    make(vric, {}, "gallery_images/7.jpg")
    assert open_dataset(vric).notes == (
        "missing in train_images: 1 of 3 images in vric_train.txt, first 000002.jpg.",
        "not listed in vric_gallery.txt: 1 of 3 images in gallery_images, first 7.jpg.",
    )


# ---------------------------------------------------------------- wrong rows, in all of them


@pytest.mark.parametrize(
    ("family", "name", "old", "new", "check", "sentence"),
    [
        (
            "vehicleid",
            "train_test_split/train_list.txt",
            "0000003 77",
            "0000003",
            "label",
            "line 3: is '0000003'; write image, vehicle with blanks between.",
        ),
        (
            "vehicleid",
            "train_test_split/train_list.txt",
            "0000003",
            "0000002.jpg",
            "duplicate entry",
            "line 3: image 0000002.jpg is already in line 2; remove one.",
        ),
        (
            "wild",
            "train_test_split/train_list.txt",
            "00002/000003.jpg",
            "000003.jpg",
            "label",
            "line 3: '000003.jpg' is not like 00001/000001.jpg; correct it.",
        ),
        (
            "wild",
            "train_test_split/test_3000.txt",
            "00009/000012",
            "00009/000011.jpg",
            "duplicate entry",
            "line 2: image 00009/000011.jpg is already in line 1; remove one.",
        ),
        (
            "wild",
            "train_test_split/vehicle_info.txt",
            "00009/000011;1;",
            "00009/000011;north;",
            "label",
            "line 6: camera 'north' is not like c001; correct it.",
        ),
        (
            "vric",
            "vric_gallery.txt",
            "000002.jpg 3 5",
            "000002.jpg 3 five",
            "label",
            "line 2: camera 'five' is not like c001; correct it.",
        ),
        (
            "vric",
            "vric_train.txt",
            "000003.jpg 9 60",
            "000003.jpg,9,60",
            "label",
            "line 3: is '000003.jpg,9,60'; write image, vehicle, camera with blanks between.",
        ),
    ],
)
def test_wrong_rows_are_reported_with_fix_and_left_out(
    request: pytest.FixtureRequest, family: str, name: str, old: str, new: str, check: str, sentence: str
) -> None:
    folder: Path = request.getfixturevalue(family)
    whole = open_dataset(folder)
    text = (folder / name).read_text(encoding="gb18030")
    assert old in text
    (folder / name).write_text(text.replace(old, new), encoding="gb18030")
    with pytest.raises(InputError) as caught:
        open_dataset(folder)
    assert str(caught.value) == f"{folder / name}, {sentence}"
    findings: list[Finding] = []
    rest = open_dataset(folder, on_finding=findings.append)
    assert [(finding.check, str(finding)) for finding in findings] == [(check, str(caught.value))]
    sizes = [len(whole.train) + len(whole.gallery), len(rest.train) + len(rest.gallery)]
    assert sizes[0] - sizes[1] == (0 if "camera" in sentence[:14] else 1)  # a wrong camera is an unknown one


@pytest.mark.parametrize("family", ["vehicleid", "wild", "vric"])
def test_lists_whose_images_are_not_there_are_rejected(request: pytest.FixtureRequest, family: str) -> None:
    folder: Path = request.getfixturevalue(family)
    for image in folder.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(
        InputError,
        match=r"(its images do not exist, first .*jpg|has none of the 3 images in .*)"
        "; unpack the images",
    ):
        open_dataset(folder)


@pytest.mark.parametrize("family", ["vehicleid", "wild", "vric"])
@pytest.mark.parametrize("absent", ["train", "test"])
def test_images_of_training_or_test_may_be_absent(request: pytest.FixtureRequest, family: str, absent: str) -> None:
    folder: Path = request.getfixturevalue(family)
    whole = open_dataset(folder)
    for split in ("train",) if absent == "train" else ("query", "gallery"):
        for path in getattr(whole, split).path:
            Path(path).unlink(missing_ok=True)
    dataset = open_dataset(folder)
    sizes = [len(getattr(dataset, split)) for split in ("train", "query", "gallery")]
    expected = [len(getattr(whole, split)) for split in ("train", "query", "gallery")]
    assert sizes == ([0, *expected[1:]] if absent == "train" else [expected[0], 0, 0])
    left = "training" if absent == "train" else "the test"
    assert any(note.startswith(f"{left} is skipped: ") for note in dataset.notes)

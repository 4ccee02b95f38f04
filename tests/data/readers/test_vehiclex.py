"""VehicleX, from files typed by hand after the description of the distributed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.data.open import open_dataset
from vreid.data.readers.common import degrees, natural
from vreid.data.readers.vehiclex import COLORS, VEHICLE_TYPES, read_vehiclex
from vreid.errors import InputError

XML = """<?xml version="1.0" encoding="utf-8"?>
<TrainingImages Version="1.0">
  <Items number="-">
    <Item typeID="0" imageName="00001_c001_33.jpg" cameraID="c001" vehicleID="0001" colorID="4" orientation="360.0" \
lightInt="1.2" lightDir="90.1" camHei="6.0" camDis="14.2" />
    <Item typeID="0" imageName="00001_c001_4.jpg" cameraID="c001" vehicleID="0001" colorID="4" orientation="271.5" \
lightInt="0.9" lightDir="60.0" camHei="4.4" camDis="11.1" />
    <Item typeID="10" imageName="01362_c019_1.jpg" cameraID="c019" vehicleID="1362" colorID="11" orientation="0.0" \
lightInt="2.7" lightDir="120.0" camHei="12.0" camDis="22.1" />
  </Items>
</TrainingImages>
"""
NAMES = ("00001_c001_33.jpg", "00001_c001_4.jpg", "01362_c019_1.jpg")


def make(folder: Path, xml: str | None = XML, images: str = "sys_image_train") -> Path:
    (folder / images).mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        Image.new("RGB", (6, 4)).save(folder / images / name)
    if xml is not None:
        (folder / "train_label.xml").write_text(xml, encoding="utf-8")
    return folder


def test_as_distributed(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path / "AIC21_Track2_ReID_Simulation"))
    train = dataset.train
    assert dataset.name == "VehicleX" and not len(dataset.query) and not len(dataset.gallery) and dataset.notes == ()
    assert train.image_key.tolist() == [  # counters in the order of numbers
        "synthetic/00001_c001_4",
        "synthetic/00001_c001_33",
        "synthetic/01362_c019_1",
    ]
    assert train.identity.values.tolist() == ["synthetic-0001", "synthetic-0001", "synthetic-1362"]
    assert train.camera.values.tolist() == ["synthetic-c001", "synthetic-c001", "synthetic-c019"]
    assert train.color.values.tolist() == ["red", "red", "pink"]
    assert train.vehicle_type.values.tolist() == ["sedan", "sedan", "rv"]
    assert train.orientation.tolist() == [271.5, 0.0, 0.0]
    assert set(train.domain.values) == {"synthetic"} and set(train.variant.values) == {"original"}


def test_the_other_spelling_reads_the_same(tmp_path: Path) -> None:
    other = XML.replace("camHei", "cameraHei").replace("camDis", "cameraDis")
    one, two = make(tmp_path / "one"), make(tmp_path / "two", other)
    two_at_ones_place = open_dataset(two).train.with_(path=open_dataset(one).train.path)
    assert two_at_ones_place == open_dataset(one).train


@pytest.mark.parametrize("images", ["image_train", "."])
def test_the_layouts_of_2020(tmp_path: Path, images: str) -> None:
    folder = make(tmp_path / "AIC20_ReID_Simulation", images=images)
    (folder / "name_train.txt").write_text("\n".join(NAMES))
    dataset = open_dataset(folder)
    assert dataset.name == "VehicleX" and len(dataset.train) == 3
    assert Path(dataset.train.path[0]).is_file()


@pytest.mark.parametrize("below", ["sys_image_train", ""])
def test_it_is_found_from_below_and_above(tmp_path: Path, below: str) -> None:
    folder = make(tmp_path / "AIC21_Track2_ReID_Simulation")
    assert len(open_dataset(folder / below if below else tmp_path).train) == 3


def test_translated_images_are_a_variant_of_the_same_ones(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    with pytest.raises(InputError, match=r"x: has no 'translated'; available: original\."):
        open_dataset(folder, variants=("translated",))
    make(folder, images="sys_image_train_tr")
    original, translated = open_dataset(folder).train, open_dataset(f"{folder}@translated").train
    assert translated.image_key.tolist() == original.image_key.tolist()
    assert translated.identity == original.identity
    assert set(translated.variant.values) == {"translated"}
    assert "sys_image_train_tr" in translated.path[0]


def relabelled(colors: tuple[int, int], types: tuple[int, int]) -> str:
    out = XML
    for name, old, new in (("colorID", (4, 11), colors), ("typeID", (0, 10), types)):
        for before, after in zip(old, new, strict=True):
            out = out.replace(f'{name}="{before}"', f'{name}="_{after}"')
    return out.replace('="_', '="')


@pytest.mark.parametrize(
    ("colors", "types", "expected", "note"),
    [
        ((0, 11), (3, 4), ("yellow", "pink", "hatchback", "mpv"), False),
        ((1, 12), (3, 4), ("yellow", "pink", "van", "hatchback"), False),  # a colour 12 tells that types count from 1
        ((3, 4), (1, 11), ("green", "gray", "sedan", "rv"), False),  # and a type 11 that colours do
        ((3, 4), (0, 2), ("gray", "red", "sedan", "van"), False),
        ((3, 4), (3, 4), ("gray", "red", "hatchback", "mpv"), True),
    ],
)
def test_the_base_of_the_numbers_is_seen_from_all_of_them(
    tmp_path: Path, colors: tuple[int, int], types: tuple[int, int], expected: tuple[str, ...], note: bool
) -> None:
    dataset = read_vehiclex(make(tmp_path / "x", relabelled(colors, types)))
    train = dataset.train
    found = (train.color.values[0], train.color.values[2], train.vehicle_type.values[0], train.vehicle_type.values[2])
    assert found == expected
    assert dataset.notes == (("colour and type numbers may start at 0 or 1; 0 is assumed.",) if note else ())


def test_the_names_are_veris_and_two_more() -> None:
    assert len(COLORS) == 12 and len(VEHICLE_TYPES) == 11
    assert COLORS[:10] == (
        "yellow",
        "orange",
        "green",
        "gray",
        "red",
        "blue",
        "white",
        "golden",
        "brown",
        "black",
    )
    assert VEHICLE_TYPES[:9] == (
        "sedan",
        "suv",
        "van",
        "hatchback",
        "mpv",
        "pickup",
        "bus",
        "truck",
        "estate",
    )


def test_without_labels_the_names_tell_vehicle_and_camera(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path / "x", xml=None))
    assert dataset.train.identity.distinct == 2 and dataset.train.color.distinct == 0
    assert np.isnan(dataset.train.orientation).all()
    assert dataset.notes == ("there is no train_label.xml, so colour, type and orientation are unknown.",)


def test_what_is_odd_is_noted(tmp_path: Path) -> None:
    xml = XML.replace("00001_c001_4.jpg", "00001_c001_5.jpg").replace('vehicleID="1362"', 'vehicleID="1361"')
    dataset = open_dataset(make(tmp_path / "x", xml))
    assert dataset.notes == (
        "missing in sys_image_train: 1 of 3 images in train_label.xml, first 00001_c001_5.jpg.",
        "not listed in train_label.xml: 1 of 3 images in sys_image_train, first 00001_c001_4.jpg.",
        "train_label.xml contradicts the vehicle or camera in the file name; the file name is used: 1 of 4 "
        "images, first "
        "01362_c019_1.jpg.",
    )
    assert dataset.train.color.values.tolist() == ["", "red", "red", "pink"]
    assert dataset.train.identity.values[3] == "synthetic-1362"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('colorID="11"', 'colorID="13"', "train_label.xml, Item 3: colorID 13 is not between 0 and 11; correct it."),
        ('colorID="11"', 'colorID="-1"', "train_label.xml, Item 3: colorID -1 is not between 0 and 11; correct it."),
        ('colorID="11"', 'colorID="1.5"', "train_label.xml, Item 3: colorID 1.5 is not between 0 and 11; correct it."),
        ('colorID="11"', 'colorID="pink"', "train_label.xml, Item 3: colorID 'pink' is not a number; correct it."),
        (
            'colorID="11"',
            'colorID="12"',
            "train_label.xml, Item 3: colorID is 12, but typeID is 0 in Item 2, and both use the same numbering; "
            "correct the numbers.",
        ),
        (
            'orientation="271.5"',
            'orientation="inf"',
            "train_label.xml, Item 2: orientation 'inf' is not a number; correct it.",
        ),
        (
            'imageName="00001_c001_4.jpg"',
            'imageName="00001_c001_33.jpg"',
            "train_label.xml, Item 2: image 00001_c001_33.jpg is listed twice; remove one of the two Items.",
        ),
        (
            'imageName="00001_c001_4.jpg"',
            'imageName="car.jpg"',
            "train_label.xml, Item 2: imageName 'car.jpg' is not like 00001_c001_33.jpg; correct it.",
        ),
    ],
)
def test_wrong_labels_are_reported_with_row_and_fix(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in XML
    folder = make(tmp_path / "x", XML.replace(old, new))
    with pytest.raises(InputError) as caught:
        open_dataset(folder)
    assert str(caught.value) == f"{folder}/{sentence}"


def test_an_empty_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "sys_image_train").mkdir()
    with pytest.raises(InputError, match="sys_image_train: holds no images; unpack VehicleX again"):
        open_dataset(tmp_path)


def test_names_are_sorted_by_their_numbers_of_any_length() -> None:
    names = ["b1", "a10", "a2", "a" + "9" * 5000, "a02", "a", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a", "a02", "a2", "a10", "a" + "9" * 5000, "b1"]


def test_angles_stay_below_360_after_rounding() -> None:
    assert degrees([360.0, 359.99999999, -1e-9, -90.0, 725.5]).tolist() == [0.0, 0.0, 0.0, 270.0, 5.5]

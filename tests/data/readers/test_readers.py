"""Your own images: tables and folders; how a source is recognised."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.data.open import open_dataset
from vreid.data.protocols import CROSS_CAMERA, MARKET
from vreid.data.readers.families import FAMILIES
from vreid.data.readers.folder import read_folder
from vreid.data.readers.image_table import read_records, read_table
from vreid.data.records import JUNK
from vreid.errors import InputError

TWO_CAMERAS = Path(os.environ.get("VREID_TWO_CAMERAS", Path(__file__).parents[4] / "shared/data/two_cameras"))


def images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(folder / name)
    return folder


def table(folder: Path, text: str, name: str = "images.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


# ---------------------------------------------------------------- tables


def test_a_plain_table(tmp_path: Path) -> None:
    images(tmp_path, "a/1.jpg", "a/2.jpg")
    records, notes = read_records(table(tmp_path, "path,identity,camera\na/1.jpg,7,c1\na/2.jpg,,c2\n"))
    assert records.path.tolist() == [str(tmp_path / "a/1.jpg"), str(tmp_path / "a/2.jpg")]
    assert records.image_key.tolist() == ["a/1.jpg", "a/2.jpg"]
    assert records.identity.values.tolist() == ["7", ""] and records.camera.values.tolist() == ["c1", "c2"]
    assert notes == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_write(tmp_path: Path, delimiter: str, encoding: str, newline: str) -> None:
    lines = [
        "Image Name,Vehicle ID,cam_id,Colour,Type,Track-ID,Timestamp,frameNumber",
        'x y.jpg , 12,c1,"dark, red",suv,t1,12.5,3',
        "",
        "ü.jpg,-1,c2,,,,,",
    ]
    rows = [line.replace('"dark, red"', "QUOTED").replace(",", delimiter) for line in lines]
    text = newline.join(row.replace("QUOTED", f'"dark{delimiter} red"') for row in rows)
    records, notes = read_records(table(tmp_path, text, encoding=encoding))
    assert records.image_key.tolist() == ["x y.jpg", "ü.jpg"] and notes == ()
    assert records.identity.values.tolist() == ["12", "junk"] and records.identity.codes[1] == JUNK
    assert records.color.values.tolist() == [f"dark{delimiter} red", ""]
    assert (records.vehicle_type.values[0], records.tracklet.values[0]) == ("suv", "t1")
    assert records.time[0] == 12.5 and np.isnan(records.time[1]) and records.frame.tolist() == [3, -1]


@pytest.mark.parametrize(
    ("spelling", "field"),
    [
        ("colour", "color"),
        ("type", "vehicle_type"),
        ("vehicleID", "identity"),
        ("vid", "identity"),
        ("pid", "identity"),
        ("camid", "camera"),
        ("cam", "camera"),
        ("cameraID", "camera"),
        ("track", "tracklet"),
        ("tid", "tracklet"),
        ("Scene", "scene"),
        ("subset", "split"),
    ],
)
def test_the_fields_other_spellings(tmp_path: Path, spelling: str, field: str) -> None:
    records, notes = read_records(table(tmp_path, f"file,{spelling}\n1.jpg,w\n"))
    assert getattr(records, field).values.tolist() == ["w"] and notes == ()


def test_unknown_columns_are_noted_and_not_fatal(tmp_path: Path) -> None:
    _, notes = read_records(table(tmp_path, "path,speed,camera,owner\n1.jpg,5,c1,me\n"))
    assert notes == ("columns speed, owner of images.csv are not used.",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1767603600.25", 1767603600.25),
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1970-01-01 00:00:01.5", 1.5),
    ],
)
def test_times_are_seconds_or_iso(tmp_path: Path, text: str, seconds: float) -> None:
    records, _ = read_records(table(tmp_path, f"path,time\n1.jpg,{text}\n"))
    assert records.time[0] == seconds


def test_boxes_on_shared_frames(tmp_path: Path) -> None:
    corners = "image,xmin,ymin,xmax,ymax\nf.jpg,1,2,11,22.5\nf.jpg,5,2,11,22.5\ng.jpg,,,,\n"
    records, _ = read_records(table(tmp_path, corners))
    assert records.box[:2].tolist() == [[1, 2, 11, 22.5], [5, 2, 11, 22.5]] and np.isnan(records.box[2]).all()
    assert records.image_key.tolist() == ["f.jpg#1,2,11,22.5", "f.jpg#5,2,11,22.5", "g.jpg"]
    sizes, _ = read_records(table(tmp_path, "image,left,top,width,height\nf.jpg,1,2,10,20.5\n"))
    assert sizes.box.tolist() == [[1, 2, 11, 22.5]]
    no_box, _ = read_records(table(tmp_path, "image,width,height\nf.jpg,640,480\n"))
    assert np.isnan(no_box.box).all()


def test_orientations_are_taken_modulo_360(tmp_path: Path) -> None:
    records, _ = read_records(table(tmp_path, "path,orientation\n1.jpg,360\n2.jpg,-90\n3.jpg,\n"))
    assert records.orientation[:2].tolist() == [0, 270] and np.isnan(records.orientation[2])


def test_a_split_column_makes_a_market_like_data_set(tmp_path: Path) -> None:
    images(tmp_path, "1.jpg")
    rows = ["1.jpg,Train", "2.jpg,probe", "3.jpg,test", "4.jpg,gallery", "5.jpg,query"]
    dataset = read_table(table(tmp_path, "path,split\n" + "\n".join(rows)))
    assert [len(part) for part in (dataset.train, dataset.query, dataset.gallery)] == [1, 2, 2]
    assert dataset.protocol == MARKET
    assert set(dataset.query.split.values) == {"query"} and set(dataset.gallery.split.values) == {"gallery"}


def test_without_split_every_image_is_query_and_gallery(tmp_path: Path) -> None:
    images(tmp_path, "1.jpg")
    dataset = read_table(table(tmp_path, "path,camera\n1.jpg,a\n2.jpg,b\n"))
    assert dataset.query is dataset.gallery and len(dataset.gallery) == 2 and not len(dataset.train)
    assert dataset.protocol == CROSS_CAMERA and dataset.notes == ()
    (note,) = read_table(table(tmp_path, "path\n1.jpg\n")).notes
    assert note == "no image has a camera, so cross-camera search is not possible."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no rows; give a line with the column names and one line for each image."),
        ("path,camera\n", "has no rows; give a line with the column names and one line for each image."),
        (
            "camera,identity\nc1,1\n",
            "line 1: has no column path (but camera, identity); name that of the image files so.",
        ),
        ("path,cam,camera\n1.jpg,a,b\n", "line 1: columns 'cam' and 'camera' both mean camera; remove one."),
        (
            "path,camera\n1.jpg,c1\n2.jpg\n",
            "line 3: the number of cells is 1 but there are 2 columns; quote cells that hold ','.",
        ),
        (
            "path;camera\n1.jpg;c1;c2\n",
            "line 2: the number of cells is 3 but there are 2 columns; quote cells that hold ';'.",
        ),
        ("path,camera\n\n1.jpg,c1\n,c2\n", "line 4: path '' is no file name; fill it in or remove the line."),
        ("path\n1.jpg\n2.jpg\n1.jpg\n", "line 4: image '1.jpg' is already in line 2; remove one."),
        (
            "path,x1,y1,x2,y2\nf.jpg,1,2,3,4\nf.jpg,1,2,3,4\n",
            "line 3: image 'f.jpg#1,2,3,4' is already in line 2; remove one.",
        ),
        ("path,x1,y1,x2,y2\nf.jpg,1,2,,4\n", "line 2: x2 '' is empty, but not the rest of its box; give all four."),
        ("path,x1,y1,x2,y2\nf.jpg,5,2,4,4\n", "line 2: x2 '4' gives an empty box (5, 2, 4, 4); correct it."),
        ("path,x,y,w,h\nf.jpg,5,2,0,4\n", "line 2: width '0' gives an empty box (5, 2, 5, 6); correct it."),
        ("path,x1,y1,x2\nf.jpg,1,2,3\n", "a box needs x1, y1, x2, y2, but there is no column y2; add it."),
        ("path,orientation\nf.jpg,left\n", "line 2: orientation 'left' is not a number; correct it or leave it empty."),
        ("path,orientation\nf.jpg,inf\n", "line 2: orientation 'inf' is infinite; correct it or leave it empty."),
        (
            "path,frame\nf.jpg,1.5\n",
            "line 2: frame '1.5' is not a whole number; give a whole number from 0, or leave it empty.",
        ),
        (
            "path,frame\nf.jpg,-7\n",
            "line 2: frame '-7' is no frame number; give a whole number from 0, or leave it empty.",
        ),
        (
            "path,time\n1.jpg,0\n2.jpg,noon\n",
            "line 3: time 'noon' is neither seconds nor ISO 8601; write it as 2026-05-01T12:00:00Z.",
        ),
        (
            "path,time\n1.jpg,-inf\n",
            "line 2: time '-inf' is neither seconds nor ISO 8601; write it as 2026-05-01T12:00:00Z.",
        ),
        (
            'path,camera\n"1.jpg,c1\n2.jpg,c2\n',
            "line 3: the number of cells is 1 but there are 2 columns; quote cells that hold ','.",
        ),
    ],
)
def test_wrong_tables_are_reported_with_line_and_fix(tmp_path: Path, text: str, sentence: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_records(path)
    separator = ", " if sentence.startswith("line") else ": "
    assert str(caught.value) == f"{path}{separator}{sentence}"


def test_wrong_bytes_splits_and_places_are_reported(tmp_path: Path) -> None:
    path = table(tmp_path, "path,color\n1.jpg,grün\n", encoding="latin-1")
    with pytest.raises(InputError, match=r"images.csv, line 2: is not utf-8-sig text; save the file as UTF-8\."):
        read_records(path)
    with pytest.raises(InputError, match=r"none.csv: cannot be read \(No such file or directory\); check the name\."):
        read_records(tmp_path / "none.csv")
    path = table(tmp_path, "path\n1.jpg\n2.jpg\n")
    with pytest.raises(InputError, match=r"its images do not exist, first .*1.jpg; correct the paths"):
        read_table(path)
    images(tmp_path, "1.jpg")
    path = table(tmp_path, "path,split\n1.jpg,train\n2.jpg,val\n")
    with pytest.raises(
        InputError, match=r"images.csv, line 3: split is 'val'; give one of train, training, query, probe,"
    ):
        read_table(path)


def test_two_cameras() -> None:
    if not TWO_CAMERAS.is_dir():
        pytest.skip(f"{TWO_CAMERAS} is not there; set VREID_TWO_CAMERAS to its place")
    for source in (TWO_CAMERAS, TWO_CAMERAS / "images.csv"):
        dataset = open_dataset(source)
        assert dataset.protocol == CROSS_CAMERA and dataset.notes == ()
        records = dataset.gallery
        assert (len(records), records.identity.distinct, records.camera.distinct) == (506, 253, 2)
        assert set(records.vehicle_type.values) == {"car", "truck", "bus", "motorcycle"}
        assert all(map(os.path.exists, records.path))
    assert open_dataset(TWO_CAMERAS).name == "two_cameras"


# ---------------------------------------------------------------- folders


def test_flat_names_tell_vehicle_and_camera(tmp_path: Path) -> None:
    images(tmp_path, "0002_c002_00030600_0.jpg", "0002_c016_00030650_1.jpg")
    images(tmp_path, "0010_c1s1_000451_03.jpg", "-1_c3s1_1.png")
    dataset = open_dataset(tmp_path)
    records = dataset.gallery
    assert records.image_key.tolist() == [
        "0002_c002_00030600_0.jpg",
        "0002_c016_00030650_1.jpg",
        "0010_c1s1_000451_03.jpg",
        "-1_c3s1_1.png",
    ]
    assert records.identity.values.tolist() == ["0002", "0002", "0010", "junk"]
    assert records.camera.values.tolist() == ["c002", "c016", "c001", "c003"]
    assert dataset.query is dataset.gallery and dataset.protocol == CROSS_CAMERA and dataset.notes == ()


def test_plain_names_are_unknown_vehicles_in_natural_order(tmp_path: Path) -> None:
    images(tmp_path, "img10.jpg", "img2.jpg", ".hidden.jpg", "img1.JPG")
    (tmp_path / "readme.txt").write_text("hello")
    dataset = open_dataset(tmp_path)
    assert dataset.gallery.image_key.tolist() == ["img1.JPG", "img2.jpg", "img10.jpg"]
    assert not dataset.gallery.identity.known.any()
    assert dataset.notes == (
        f"3 of 3 images in {tmp_path.name} are not named like 0002_c002_..., their vehicle is unknown.",
        "no image has a camera, so cross-camera search is not possible.",
    )


def test_a_sub_folder_a_vehicle(tmp_path: Path) -> None:
    images(tmp_path, "taxi/a_c002_1.jpg", "taxi/c3_x.png", "van/1.jpg")
    records = open_dataset(tmp_path).gallery
    assert records.identity.values.tolist() == ["taxi", "taxi", "van"]
    assert records.camera.values.tolist() == ["c002", "c003", ""]
    assert records.image_key.tolist() == ["taxi/a_c002_1.jpg", "taxi/c3_x.png", "van/1.jpg"]


def test_one_sub_folder_is_no_vehicle(tmp_path: Path) -> None:
    images(tmp_path, "crops/0001_c001_1.jpg", "crops/0001_c002_1.jpg")
    assert open_dataset(tmp_path).gallery.identity.values.tolist() == ["0001", "0001"]


@pytest.mark.parametrize(
    "names",
    [
        ("train", "query", "gallery"),
        ("image_train", "image_query", "image_test"),
        ("bounding_box_train", "query", "bounding_box_test"),
        ("Train", "Query", "Test"),
    ],
)
def test_split_folders(tmp_path: Path, names: tuple[str, str, str]) -> None:
    train, query, gallery = names
    images(tmp_path, f"{train}/0001_c001_1.jpg", f"{query}/0002_c001_1.jpg", f"{gallery}/0002_c002_1.jpg")
    images(tmp_path, "other/x.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.train.image_key.tolist() == [f"{train}/0001_c001_1.jpg"]
    assert dataset.query.identity.values.tolist() == dataset.gallery.identity.values.tolist() == ["0002"]
    assert dataset.protocol == MARKET and dataset.name == tmp_path.name
    assert dataset.notes == ("folders other belong to no split and are not used.",)


def test_split_folders_with_a_folder_a_vehicle(tmp_path: Path) -> None:
    images(tmp_path, "train/red/1.jpg", "train/blue/1.jpg", "test/red/c2_1.jpg", "test/green/c2_1.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.train.identity.values.tolist() == ["blue", "red"] and len(dataset.query) == 0
    assert dataset.gallery.image_key.tolist() == ["test/green/c2_1.jpg", "test/red/c2_1.jpg"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("train/1.jpg", "image_train/1.jpg"), "folders train and image_train both mean train; rename one of them."),
        (("1.jpg", "red/1.jpg"), "has images (1.jpg, ...) beside folders (red, ...) of images; move one."),
    ],
)
def test_ambiguous_folders_are_rejected(tmp_path: Path, names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        open_dataset(images(tmp_path, *names))
    assert str(caught.value) == f"{tmp_path}: {sentence}"


def test_folders_without_images_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no images \(.jpg, .png, ...\); name the folder that does"):
        read_folder(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="holds no images in train, query or gallery; put them there"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="cannot be listed"):
        read_folder(tmp_path / "none")


# ---------------------------------------------------------------- recognising


def test_what_is_not_recognised_is_rejected_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path / "empty")
    signs = "; ".join(family.signs for family in FAMILIES)
    assert str(caught.value) == f"{tmp_path / 'empty'}: is not a known data set format; looked for {signs}."
    assert "sys_image_train (VehicleX)" in signs and "a CSV table" in signs
    with pytest.raises(InputError, match=r"nowhere: does not exist; give a folder of images or a CSV table\."):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(
        InputError, match=r"set.zip: is not a data set; give a folder or a table \(.csv, .tsv, .txt\)\."
    ):
        open_dataset(tmp_path / "set.zip")


def test_two_tables_are_not_guessed_at(tmp_path: Path) -> None:
    images(tmp_path, "1.jpg")
    table(tmp_path, "path,camera\n1.jpg,a\n", name="labels.csv")
    assert open_dataset(tmp_path).gallery.camera.distinct == 1
    table(tmp_path, "path,camera\n1.jpg,a\n", name="other.csv")
    assert open_dataset(tmp_path).gallery.camera.distinct == 0  # the images alone


def test_images_csv_is_the_table_among_others(tmp_path: Path) -> None:
    """Tables of cameras and of the truth are never taken for that of the images, not even alone."""
    images(tmp_path, "1.jpg")
    for name in ("cameras.csv", "truth.csv", "truth_od.csv"):
        table(tmp_path, "path,camera\n1.jpg,a\n", name=name)
        assert open_dataset(tmp_path).gallery.camera.distinct == 0  # the images alone
    table(tmp_path, "path,camera\n1.jpg,a\n", name="labels.csv")
    assert open_dataset(tmp_path).gallery.camera.distinct == 1
    table(tmp_path, "path,camera\n1.jpg,a\n1.jpg,b\n", name="images.csv")
    with pytest.raises(InputError, match=r"images.csv, line 3"):
        open_dataset(tmp_path)

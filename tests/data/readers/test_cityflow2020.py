"""CityFlow-ReID of 2020, from files typed by hand; and track files, of which odd ones are in circulation."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.data.protocols import AI_CITY, CAMERA_LESS
from vreid.data.records import UNKNOWN
from vreid.errors import InputError

FILES = {
    "train_label.xml": """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="3">
    <Item imageName="000001.jpg" vehicleID="0241" cameraID="c001" note="\u767d"/>
    <Item imageName="000002.jpg" vehicleID="0241" cameraID="c003" />
    <Item imageName="000003.jpg" vehicleID="0478" cameraID="c036" />
  </Items>
</TrainingImages>
""",
    "name_train.txt": "000001.jpg\n000002.jpg\n000003.jpg\n",
    "name_query.txt": "000001.jpg \r\n000002.jpg \r\n",
    "name_test.txt": "000001.jpg\n000002.jpg\n000003.jpg\n000004.jpg",
    "train_track_id.txt": "1 \n2 \n3 \n",
    "test_track_id.txt": "3 1 \n2 4 \n",
}
IMAGES = {"image_train": 3, "image_query": 2, "image_test": 4}
TRUTH = """\
image_key,path,identity,camera,split
query/000001,x.jpg,0500,c041,query
test/000001,x.jpg,0501,c022,gallery
test/000002,x.jpg,0500,,gallery
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "AIC20_track2" / "AIC20_ReID"
    for name, count in IMAGES.items():
        (folder / name).mkdir(parents=True)
        for number in range(1, count + 1):
            Image.new("RGB", (6, 4)).save(folder / name / f"{number:06d}.jpg")
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode("gb2312"))
    return folder


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_as_distributed(folder: Path, above: str) -> None:
    dataset = open_dataset((folder / above).resolve())
    assert dataset.name == "CityFlow-ReID" and dataset.protocol == CAMERA_LESS and dataset.notes == ()
    assert dataset.train.identity.values.tolist() == ["0241", "0241", "0478"]
    assert dataset.train.camera.values.tolist() == ["c001", "c003", "c036"]
    assert dataset.gallery.image_key.tolist() == [f"test/{n:06d}" for n in (1, 2, 3, 4)]
    assert dataset.gallery.tracklet.values.tolist() == ["test_00000", "test_00001", "test_00000", "test_00001"]
    assert dataset.query.image_key.tolist() == ["query/000001", "query/000002"]
    for records in (dataset.query, dataset.gallery):
        assert set(records.camera.codes) == set(records.identity.codes) == {UNKNOWN}
    assert dataset.where("gallery", 3) == f"{folder / 'name_test.txt'}, line 4"
    assert dataset.where("train", 2) == f"{folder / 'train_label.xml'}, Item 3"


def test_the_training_half_alone_is_recognised_by_its_list_of_names(folder: Path) -> None:
    for name in ("query", "test"):
        (folder / f"name_{name}.txt").unlink()
        for path in (folder / f"image_{name}").iterdir():
            path.unlink()
        (folder / f"image_{name}").rmdir()
    assert open_dataset(folder).protocol == CAMERA_LESS
    (folder / "name_train.txt").unlink()
    assert open_dataset(folder).protocol == AI_CITY


def test_the_truth_names_vehicles_and_cameras(folder: Path) -> None:
    (folder.parent / "ground_truth.csv").write_text(TRUTH)
    dataset = open_dataset(folder, labels="auto")
    assert dataset.query.identity.values.tolist() == ["0500", ""]
    assert dataset.query.camera.values.tolist() == ["c041", ""]
    assert dataset.gallery.camera.values.tolist() == ["c022", "", "", ""]
    assert dataset.protocol == CAMERA_LESS  # judged as the challenge was


def test_empty_lines_are_no_tracklets_and_counted(folder: Path) -> None:
    # As in a file in circulation: empty lines between others, and at its end.
    (folder / "test_track_id.txt").write_text("\n3 1 \n\n   \n2 4 \n\n\n")
    dataset = open_dataset(folder)
    assert dataset.gallery.tracklet.values.tolist() == ["test_00001", "test_00004", "test_00001", "test_00004"]
    assert dataset.gallery.tracklet.distinct == 2
    assert dataset.notes == (
        "empty lines in test_track_id.txt: 3; they are not tracklets but count in the line-based names.",
    )


def test_of_equal_track_files_the_one_without_empty_lines_counts(folder: Path) -> None:
    (folder / "test_track_id.txt").write_text("\n3 1 \n\n2 4 \n")
    (folder / "test_track.txt").write_text("000003.jpg 000001.jpg \n000002.jpg 000004.jpg \n")
    dataset = open_dataset(folder)
    assert dataset.gallery.tracklet.values.tolist() == ["test_00000", "test_00001", "test_00000", "test_00001"]
    assert dataset.notes == (
        "test_track_id.txt and test_track.txt differ (4 images in 2 tracklets and 2 empty lines; 4 images in 2 "
        "tracklets); test_track.txt is used.",
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "check", "sentence"),
    [
        (
            "name_query.txt",
            "000002.jpg",
            "car.jpg",
            "label",
            "line 2: imageName 'car.jpg' is not like 000001.jpg; correct it.",
        ),
        (
            "name_test.txt",
            "000004.jpg",
            "3",
            "duplicate entry",
            "line 4: image 3 is listed twice; remove one of the two lines.",
        ),
        (
            "train_label.xml",
            'cameraID="c003"',
            'cameraID="x"',
            "label",
            "Item 2: cameraID 'x' is not like c001; correct it.",
        ),
        (
            "train_label.xml",
            'vehicleID="0478"',
            'vehicleID=""',
            "label",
            "Item 3: has no vehicleID; add it or remove the Item.",
        ),
        (
            "test_track_id.txt",
            "2 4",
            "2 1",
            "duplicate entry",
            "line 2: image 1 is already in line 1; an image belongs to one tracklet; remove it from the other.",
        ),
        ("test_track_id.txt", "2 4", "2 -4", "label", "line 2: '-4' is not an image name or number; correct it."),
    ],
)
def test_what_is_wrong_is_reported_with_its_row_and_the_rest_is_read(
    folder: Path, name: str, old: str, new: str, check: str, sentence: str
) -> None:
    assert old in FILES[name]
    (folder / name).write_bytes(FILES[name].replace(old, new).encode("gb2312"))
    with pytest.raises(InputError) as caught:
        open_dataset(folder)
    assert str(caught.value) == f"{folder / name}, {sentence}"
    findings: list[Finding] = []
    dataset = open_dataset(folder, on_finding=findings.append)
    assert [(finding.check, str(finding)) for finding in findings] == [(check, str(caught.value))]
    lost = sum(IMAGES.values()) - sum(map(len, (dataset.train, dataset.query, dataset.gallery)))
    assert lost == int(name.startswith("name_"))  # a row without a name is left out, a wrong value is unknown
    if "vehicleID" in sentence:
        assert dataset.train.identity.values.tolist() == ["0241", "0241", ""]
    if "cameraID" in sentence:
        assert dataset.train.camera.values.tolist() == ["c001", "", "c036"]


def test_several_findings_come_in_the_order_of_the_rows(folder: Path) -> None:
    (folder / "name_test.txt").write_text("000001.jpg\nx\n000003.jpg\ny\n000003.jpg\n")
    findings: list[Finding] = []
    dataset = open_dataset(folder, on_finding=findings.append)
    assert [finding.where.rpartition(" ")[2] for finding in findings] == ["2", "4", "5"]
    assert dataset.gallery.image_key.tolist() == ["test/000001", "test/000003"]
    assert dataset.where("gallery", 1) == f"{folder / 'name_test.txt'}, line 3"

"""CityFlowV2-ReID, from files typed by hand after the description of the distributed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.command_line import Run, reported
from vreid.data.dataset import join
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.data.protocols import AI_CITY
from vreid.data.readers.cityflow import read_cityflow
from vreid.data.readers.image_table import read_records
from vreid.data.records import JUNK, UNKNOWN
from vreid.errors import InputError

TRAIN_XML = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="5">
    <Item imageName="000002.jpg" vehicleID="0241" cameraID="c001" />
    <Item imageName="000001.jpg" vehicleID="0241" cameraID="c001" />
    <Item imageName="000003.jpg" vehicleID="0095" cameraID="c016" />
    <Item imageName="000010.jpg" vehicleID="-1" cameraID="c016" />
    <Item imageName="000004.jpg" vehicleID="0095" cameraID="c002" note="白色" />
  </Items>
</TrainingImages>
"""
QUERY_XML = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="2">
    <Item imageName="000001.jpg" cameraID="c041" />
    <Item imageName="000002.jpg" cameraID="c022" />
  </Items>
</TrainingImages>
"""
# Neither in the order of the numbers nor of the cameras: the gallery must come out by number.
TEST_XML = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="4">
    <Item imageName="000004.jpg" cameraID="c041" />
    <Item imageName="000001.jpg" cameraID="c022" />
    <Item imageName="000003.jpg" cameraID="c042" />
    <Item imageName="000002.jpg" cameraID="c022" />
  </Items>
</TrainingImages>
"""
TRAIN_TRACK = "000001.jpg 000002.jpg \n000003.jpg \n000004.jpg 000010.jpg\n"
TEST_TRACK = "000003.jpg \n000001.jpg 000002.jpg \n000004.jpg\n"
FILES = {
    "train_label.xml": TRAIN_XML,
    "query_label.xml": QUERY_XML,
    "test_label.xml": TEST_XML,
    "train_track.txt": TRAIN_TRACK,
    "test_track.txt": TEST_TRACK,
}
IMAGES = {"image_train": (1, 2, 3, 4, 10), "image_query": (1, 2), "image_test": (1, 2, 3, 4)}
TRUTH = """\
image_key,path,identity,camera,tracklet,frame,time,scene,x1,y1,x2,y2,color,vehicle_type,orientation,split,occluder
query/000001,x.jpg,0500,c041,test_00002,17,1000.5,S2,10,20,110.5,90,red,suv,359.9,query,none
query/000002,x.jpg,0501,c022,test_00001,,,,,,,,,,,query,pole
test/000001,x.jpg,0501,c022,test_00001,3,2000,S1,1,2,3,4,blue,van,0,gallery,none
test/000002,x.jpg,0500,c022,,,,,,,,,,,,gallery,none
test/000003,x.jpg,0500,c042,test_00000,,,,,,,,,,,gallery,none
train/000001,x.jpg,0241,c001,train_00000,,,,,,,,white,sedan,90,train,none
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "AIC21_Track2_ReID"
    for name, numbers in IMAGES.items():
        (folder / name).mkdir(parents=True)
        for number in numbers:
            Image.new("RGB", (6, 4)).save(folder / name / f"{number:06d}.jpg")
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode("gb2312"))
    return folder


def test_training_images_as_distributed(folder: Path) -> None:
    dataset = read_cityflow(folder)
    train = dataset.train
    assert train.image_key.tolist() == [f"train/{n:06d}" for n in (1, 2, 3, 4, 10)]
    assert train.identity.values.tolist() == ["0241", "0241", "0095", "0095", "junk"]
    assert train.identity.codes.tolist() == [1, 1, 0, 0, JUNK]
    assert train.camera.values.tolist() == ["c001", "c001", "c016", "c002", "c016"]
    assert train.tracklet.values.tolist() == ["train_00000", "train_00000", "train_00001", "train_00002", "train_00002"]
    assert train.path[4] == str(folder / "image_train" / "000010.jpg")
    assert set(train.split.values) == {"train"} and set(train.domain.values) == {"real"}
    assert dataset.name == "CityFlowV2-ReID" and dataset.protocol == AI_CITY and dataset.notes == ()


def test_test_images_as_distributed(folder: Path) -> None:
    dataset = read_cityflow(folder)
    assert dataset.gallery.image_key.tolist() == [f"test/{n:06d}" for n in (1, 2, 3, 4)]
    assert dataset.gallery.camera.values.tolist() == ["c022", "c022", "c042", "c041"]
    assert dataset.gallery.tracklet.values.tolist() == ["test_00001", "test_00001", "test_00000", "test_00002"]
    assert dataset.query.camera.values.tolist() == ["c041", "c022"]
    assert set(dataset.query.tracklet.codes) == {UNKNOWN}
    for records in (dataset.query, dataset.gallery):
        assert set(records.identity.codes) == {UNKNOWN}  # the vehicles of the test are not distributed
    assert set(dataset.query.split.values) == {"query"} and set(dataset.gallery.split.values) == {"gallery"}


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_it_is_found_from_above(folder: Path, above: str) -> None:
    place = folder
    if above == "../..":
        place = folder.parent / "AIC21" / folder.name
        place.parent.mkdir()
        folder.rename(place)
    assert open_dataset((place / above).resolve()).train.identity.distinct == 2


def test_repr_reports_what_is_in_it(folder: Path) -> None:
    assert repr(open_dataset(folder)) == (
        "Dataset CityFlowV2-ReID: train 5 images, 2 identities, 3 cameras, 3 tracklets, 1 junk; "
        "query 2 images, 0 identities, 2 cameras, 0 tracklets, 2 without identity; "
        "gallery 4 images, 0 identities, 3 cameras, 3 tracklets, 4 without identity; protocol ai-city"
    )


@pytest.mark.parametrize("text", ["3\n1 2 \n4\n", "000003\n000001 000002\n000004", "3\r\n1 2\r\n4\r\n"])
def test_bare_numbers_are_the_same_tracks(folder: Path, text: str) -> None:
    before = read_cityflow(folder).gallery.tracklet
    (folder / "test_track.txt").unlink()
    (folder / "test_track_id.txt").write_text(text, newline="")
    dataset = read_cityflow(folder)
    assert dataset.gallery.tracklet == before and dataset.notes == ()


def test_of_two_track_files_that_differ_the_numbers_count(folder: Path) -> None:
    # As in circulation: empty lines, and an image a track lost in the file of names.
    (folder / "test_track.txt").write_text("000003.jpg \n\n000001.jpg \n\n000004.jpg\n")
    (folder / "test_track_id.txt").write_text("3\n1 2\n4\n")
    dataset = read_cityflow(folder)
    assert dataset.gallery.tracklet.values.tolist() == ["test_00001", "test_00001", "test_00000", "test_00002"]
    assert dataset.notes == (
        "test_track.txt and test_track_id.txt differ (3 images in 3 tracklets and 2 empty lines; "
        "4 images in 3 tracklets); test_track_id.txt is used.",
    )


def test_empty_lines_count_as_lines(folder: Path) -> None:
    (folder / "test_track.txt").write_text("\n000003.jpg\n\n000001.jpg 000002.jpg 000004.jpg \n\n")
    tracklets = read_cityflow(folder).gallery.tracklet.values.tolist()
    assert tracklets == ["test_00003", "test_00003", "test_00001", "test_00003"]


def test_what_is_odd_is_noted(folder: Path) -> None:
    (folder / "image_train" / "000003.jpg").unlink()
    Image.new("RGB", (6, 4)).save(folder / "image_train" / "000077.jpg")
    (folder / "train_track.txt").write_text("000001.jpg 000002.jpg 000999.jpg\n")
    (folder / "test_track.txt").unlink()
    assert read_cityflow(folder).notes == (
        "missing in image_train: 1 of 5 images in train_label.xml, first 000003.jpg.",
        "not listed in train_label.xml: 1 of 5 images in image_train, first 000077.jpg.",
        "not listed in train_label.xml: 1 of 3 images in train_track.txt, first 000999.",
        "in no line of train_track.txt: 3 of 5 images in image_train, first 000003.",
        "there is no test_track.txt, so the tracklets of image_test are unknown.",
    )


def test_splits_may_be_absent(folder: Path) -> None:
    for name in ("query", "test"):
        (folder / f"{name}_label.xml").unlink()
        for path in (folder / f"image_{name}").iterdir():
            path.unlink()
        (folder / f"image_{name}").rmdir()
    dataset = open_dataset(folder)
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (5, 0, 0)
    assert "; no query; no gallery; " in repr(dataset)


# ---------------------------------------------------------------- labels of the test images


def test_labels_are_joined_only_when_asked(folder: Path) -> None:
    (folder.parent / "ground_truth.csv").write_text(TRUTH)
    assert read_cityflow(folder).query.identity.distinct == 0
    dataset = read_cityflow(folder, labels="auto")
    assert dataset.query.identity.values.tolist() == ["0500", "0501"]
    assert dataset.gallery.identity.values.tolist() == ["0501", "0500", "0500", ""]
    assert dataset.query.tracklet.values.tolist() == ["test_00002", "test_00001"]
    # where the table says nothing, the track file does
    assert dataset.gallery.tracklet.values.tolist() == ["test_00001", "test_00001", "test_00000", "test_00002"]
    assert dataset.query.box[0].tolist() == [10, 20, 110.5, 90] and np.isnan(dataset.query.box[1]).all()
    assert dataset.query.time.tolist()[0] == 1000.5 and dataset.query.frame.tolist() == [17, -1]
    assert dataset.query.orientation[0] == np.float32(359.9) and dataset.gallery.orientation[0] == 0
    assert dataset.query.color.values.tolist() == ["red", ""] and dataset.query.vehicle_type.values[0] == "suv"
    assert dataset.query.scene.values.tolist() == ["S2", ""]
    assert dataset.train.identity.values.tolist() == ["0241", "0241", "0095", "0095", "junk"]
    assert dataset.train.color.values.tolist() == ["white", "", "", "", ""]
    assert dataset.query.path.tolist() == read_cityflow(folder).query.path.tolist()
    assert dataset.notes == (
        "ground_truth.csv has no row for 4 of 5 images, first train/000002.",
        "ground_truth.csv has no row for 1 of 4 images, first test/000004.",
        "labels of the test images come from ground_truth.csv; they are not part of the data set.",
    )


def test_labels_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(TRUTH)
    assert read_cityflow(folder, labels="auto").query.identity.distinct == 0
    assert read_cityflow(folder, labels=tmp_path / "mine.csv").query.identity.distinct == 2
    with pytest.raises(InputError, match=r"none.csv: cannot be read \(No such file"):
        read_cityflow(folder, labels=tmp_path / "none.csv")


NAMES = {
    "key": "image_key,path,identity\n{split}/{number},nowhere.jpg,{vehicle}\n",
    "key with extension": "image_key,path,identity\n{split}/{number}.jpg,nowhere.jpg,{vehicle}\n",
    "folder": "path,identity\nimage_{split}/{number}.jpg,{vehicle}\n",
    "folders": "path,identity\n/data/AIC21/image_{split}/{number}.jpg,{vehicle}\n",
    "backslashes": "path,identity\nD:\\AIC21\\image_{split}\\{number}.jpg,{vehicle}\n",
    "split": "path,identity\n{split}/{number}.jpg,{vehicle}\n",
    "column": "path,split,identity\n{number}.jpg,{split},{vehicle}\n",
    "column without extension": "path,split,identity\n{number},{split},{vehicle}\n",
}


@pytest.mark.parametrize("names", NAMES)
def test_rows_are_found_by_split_and_file_name(folder: Path, tmp_path: Path, names: str) -> None:
    header, _, row = NAMES[names].partition("\n")
    rows = [("query", "000001", "7"), ("query", "000002", "8"), ("test", "000001", "8"), ("test", "000002", "7")]
    lines = [row.format(split=split, number=number, vehicle=vehicle) for split, number, vehicle in rows]
    (tmp_path / "t.csv").write_text(f"{header}\n{''.join(lines)}")
    dataset = open_dataset(folder, labels=tmp_path / "t.csv")
    assert dataset.query.identity.values.tolist() == ["7", "8"]
    assert dataset.gallery.identity.values.tolist()[:2] == ["8", "7"]
    assert not any("train" in note and "t.csv" in note for note in dataset.notes)  # it need not hold training images


def test_rows_that_are_no_image_are_named(folder: Path, tmp_path: Path, run: Run) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,identity\nfoo/1.jpg,7\nfoo/2.jpg,8\n")
    findings: list[Finding] = []
    assert open_dataset(folder, labels=table, on_finding=findings.append).query.identity.distinct == 0
    assert [str(finding) for finding in findings] == [
        f"{table}, line 2: foo/1.jpg is no image of the data set, whose images are called like test/000001 "
        "(image_test/000001.jpg), and no other row is one either; name them so in the column image_key or path, or "
        "leave the table out (--labels none)."
    ]
    reported(run(f"extract nothing {folder} --labels {table} --out {tmp_path}/out"), f"{table}, line 2: foo/1.jpg")
    table.write_text("path,identity\nquery/000001.jpg,7\nquery/000009.jpg,8\n")
    note = "rows of t.csv that are no image of the data set: 1, first query/000009.jpg in line 3."
    assert note in open_dataset(folder, labels=table).notes


def test_labels_that_are_not_there_or_not_wanted_are_rejected(folder: Path, tmp_path: Path, run: Run) -> None:
    reported(run(f"check {folder} --labels {tmp_path}/none.csv"), "none.csv: the table of labels does not exist")
    (tmp_path / "t.csv").write_text(f"path,identity\n{folder}/image_query/000001.jpg,7\n")
    reported(run(f"check {tmp_path}/t.csv --labels {tmp_path}/t.csv"), "t.csv: has its own labels; omit --labels.")


@pytest.mark.parametrize(("absent", "there"), [(["train"], ["query", "gallery"]), (["query", "gallery"], ["train"])])
def test_images_of_training_or_test_may_be_absent(folder: Path, absent: list[str], there: list[str]) -> None:
    for split in absent:
        for path in (folder / f"image_{split.replace('gallery', 'test')}").iterdir():
            path.unlink()
    dataset = open_dataset(folder)
    assert not any(len(getattr(dataset, split)) for split in absent)
    assert all(len(getattr(dataset, split)) for split in there)
    left = "training" if absent == ["train"] else "the test"
    assert any(note.startswith(f"{left} is skipped: ") for note in dataset.notes)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "train/000001,x.jpg,0241",
            "train/000001,x.jpg,0007",
            "line 7: identity of train/000001 is 0007 but the label file says 0241; give the table of this data set.",
        ),
        (
            "0501,c022,test_00001,3",
            "0501,c023,test_00001,3",
            "line 4: camera of test/000001 is c023 but the label file says c022; give the table of this data set.",
        ),
    ],
)
def test_labels_of_another_world_are_rejected(folder: Path, old: str, new: str, sentence: str) -> None:
    table = folder.parent / "ground_truth.csv"
    assert old in TRUTH
    table.write_text(TRUTH.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_cityflow(folder, labels="auto")
    assert str(caught.value) == f"{table}, {sentence}"


def test_the_simulator_is_named_as_source(folder: Path) -> None:
    (folder.parent / "simulator.json").write_text(
        '{"simulator_version": 3, "seed": 9, "preset": {"name": "tiny"}, "counts": {"train": 5}}'
    )
    dataset = read_cityflow(folder)
    assert dataset.source == {"simulator_version": 3, "seed": 9, "preset": "tiny"}
    assert repr(dataset).endswith("protocol ai-city; simulator_version 3; seed 9; preset tiny")


# ---------------------------------------------------------------- wrong files


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        (
            "train_label.xml",
            'vehicleID="0095" cameraID="c016"',
            'cameraID="c016"',
            "train_label.xml, Item 3: has no vehicleID; add it or remove the Item.",
        ),
        (
            "train_label.xml",
            'imageName="000003.jpg" ',
            "",
            "train_label.xml, Item 3: has no imageName; add it or remove the Item.",
        ),
        (
            "test_label.xml",
            'cameraID="c042"',
            'cameraID="north"',
            "test_label.xml, Item 3: cameraID 'north' is not like c001; correct it.",
        ),
        (
            "test_label.xml",
            "000003.jpg",
            "000001.jpg",
            "test_label.xml, Item 3: image 000001.jpg is listed twice; remove one of the two Items.",
        ),
        (
            "query_label.xml",
            "000002.jpg",
            "car.jpg",
            "query_label.xml, Item 2: imageName 'car.jpg' is not like 000001.jpg; correct it.",
        ),
        (
            "query_label.xml",
            "</Items>",
            "",
            "query_label.xml, line 7: broken XML (mismatched tag: line 7, column 2); unpack it again.",
        ),
        (
            "query_label.xml",
            QUERY_XML,
            "<TrainingImages></TrainingImages>",
            "query_label.xml: holds no Item; list the images as <Item imageName=... />.",
        ),
        (
            "query_label.xml",
            QUERY_XML,
            "",
            "query_label.xml, line 1: broken XML (no element found: line 1, column 0); unpack it again.",
        ),
        (
            "test_track.txt",
            "000001.jpg 000002.jpg",
            "000001.jpg 0000O2.jpg",
            "test_track.txt, line 2: '0000O2.jpg' is not an image name or number; correct it.",
        ),
        (
            "test_track.txt",
            "000004.jpg",
            "000003.jpg 000004.jpg",
            "test_track.txt, line 3: image 000003.jpg is already in line 1; an image belongs to one tracklet; remove "
            "it from the other.",
        ),
        (
            "train_label.xml",
            TRAIN_XML,
            "<TrainingImages><Item imageName='999999.jpg' vehicleID='1' cameraID='1'/></TrainingImages>",
            "image_train: has none of the 1 images in train_label.xml; unpack the images.",
        ),
    ],
)
def test_wrong_files_are_reported_with_row_and_fix(folder: Path, name: str, old: str, new: str, sentence: str) -> None:
    assert old in FILES[name]
    (folder / name).write_bytes(FILES[name].replace(old, new).encode("gb2312"))
    with pytest.raises(InputError) as caught:
        read_cityflow(folder)
    assert str(caught.value) == f"{folder}/{sentence}"


def test_images_without_label_file_are_rejected(folder: Path) -> None:
    (folder / "test_label.xml").unlink()
    with pytest.raises(
        InputError, match=r"image_test: has no test_label.xml \(2021\) or name_test.txt \(2020\) beside it"
    ):
        open_dataset(folder)


def test_a_broken_simulator_file_is_reported(folder: Path) -> None:
    (folder.parent / "simulator.json").write_text("[1]")
    with pytest.raises(InputError, match=r"simulator.json: should hold a JSON object"):
        read_cityflow(folder)


# ---------------------------------------------------------------- the simulator's own world


def test_a_simulated_world_reads_and_agrees_with_its_ground_truth(tiny_world: Path) -> None:
    dataset = open_dataset(tiny_world, labels="auto")
    synthetic = open_dataset(tiny_world / "AIC21_Track2_ReID_Simulation")
    (note,) = dataset.notes
    assert note == "labels of the test images come from ground_truth.csv; they are not part of the data set."
    assert synthetic.notes == ()
    for table, splits in (
        ("ground_truth.csv", (dataset.train, dataset.query, dataset.gallery)),
        ("synthetic.csv", (synthetic.train,)),
    ):
        truth, _ = read_records(tiny_world / table)
        row_of = {key: row for row, key in enumerate(truth.image_key)}
        assert sum(map(len, splits)) == len(truth)
        for records in splits:
            same = truth[[row_of[key] for key in records.image_key]]
            for column in ("identity", "camera", "tracklet", "color", "vehicle_type", "domain", "split", "scene"):
                assert getattr(records, column) == getattr(same, column), (table, column)
            np.testing.assert_allclose(records.orientation, same.orientation, atol=0.051)
            np.testing.assert_array_equal(records.time, same.time)
            assert [Path(p).resolve() for p in records.path] == [Path(p).resolve() for p in same.path]
    both = join(dataset, synthetic)
    assert both.train.identity.distinct == dataset.train.identity.distinct + synthetic.train.identity.distinct
    assert both.notes == dataset.notes  # the names of the synthetic vehicles are free already

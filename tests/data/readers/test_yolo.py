"""Images with a text file each, as Ultralytics writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.small_videos import write_video
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.errors import InputError

SIZE = (200, 100)
CAR, TRUCK = "2 0.3 0.4 0.2 0.5", "7 0.7 0.5 0.2 0.3"


def image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, str(path))))
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def checked(source: Path) -> tuple[Dataset, list[str]]:
    findings: list[Finding] = []
    dataset = open_dataset(source, on_finding=findings.append)
    return dataset, [str(finding) for finding in findings]


def test_boxes_in_shares_become_pixels(tmp_path: Path) -> None:
    image(tmp_path / "images/cam1_1.jpg")
    image(tmp_path / "images/cam2_7.png", (400, 300))
    text(tmp_path / "labels/cam1_1.txt", f"{CAR} 1", TRUCK)
    text(tmp_path / "labels/cam2_7.txt", f"{CAR} 4873372822379954177", f"{TRUCK} 4873372822379954178")
    dataset, wrong = checked(tmp_path)
    records = dataset.gallery
    assert wrong == [] and not records.identity.known.any()
    np.testing.assert_allclose(records.box[:3], [[40, 15, 80, 65], [120, 35, 160, 65], [80, 45, 160, 195]], rtol=1e-5)
    assert records.camera.values.tolist() == ["cam1", "cam1", "cam2", "cam2"] and records.frame.tolist() == [1, 1, 7, 7]
    assert records.tracklet.values.tolist() == [
        "cam1/1",
        "",
        "cam2/4873372822379954177",
        "cam2/4873372822379954178",
    ]
    assert dataset.where("query", 1) == f"{tmp_path / 'labels/cam1_1.txt'}, line 2"


@pytest.mark.parametrize(
    ("more", "tracklets"),
    [
        (("0.91 3", "0.87 4"), ["cam1/3", "cam1/4"]),  # seven numbers: confidence and id
        (("0.91", "0.87"), ["", ""]),  # six: confidences
        (("3", "4"), ["cam1/3", "cam1/4"]),  # six: ids
        (("0.91", "1"), ["", ""]),
        (("-1", "18446744073709551615"), ["", ""]),
    ],
)
def test_confidences_and_ids(more: tuple[str, str], tracklets: list[str], tmp_path: Path) -> None:
    image(tmp_path / "images/cam1_1.jpg")
    text(tmp_path / "labels/cam1_1.txt", f"{CAR} {more[0]}", f"{TRUCK} {more[1]}")
    dataset, wrong = checked(tmp_path)
    assert wrong == [] and dataset.gallery.tracklet.values.tolist() == tracklets


@pytest.mark.parametrize(
    ("images", "labels", "camera"),
    [
        ("images/cam1_1.jpg", "labels/cam1_1.txt", "cam1"),
        ("images/train/cam1_1.jpg", "labels/train/cam1_1.txt", "cam1"),
        ("images/north/000001.jpg", "labels/north/000001.txt", "north"),
        ("north/images/frame_0001.jpg", "north/labels/frame_0001.txt", "north"),
        ("north/frame_0001.jpg", "north/labels/frame_0001.txt", "north"),
        ("cam1_1.jpg", "labels/cam1_1.txt", "cam1"),
        ("images/frame_0001.png", "labels/frame_0001.txt", ""),
        ("images/000001.png", "labels/000001.txt", ""),
        ("images/highway-12.png", "labels/highway-12.txt", "highway"),
    ],
)
def test_where_images_labels_and_cameras_are(images: str, labels: str, camera: str, tmp_path: Path) -> None:
    image(tmp_path / "data" / images)
    text(tmp_path / "data" / labels, f"{CAR} 5")
    dataset, wrong = checked(tmp_path / "data")
    assert wrong == [] and dataset.gallery.camera.values.tolist() == [camera]
    assert dataset.gallery.tracklet.values.tolist() == [f"{camera}/5" if camera else "5"]
    assert dataset.gallery.path.tolist() == [str(tmp_path / "data" / images)]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2 0.3 0.4 0.2", "is '2 0.3 0.4 0.2'; write class cx cy w h"),
        ("2 60 40 40 25", "but box coordinates must be relative to the image size; write class"),
        ("2 0.3 0.4 0 0.5", "gives a box of 0 x 0.5; correct it"),
        ("2 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "has 9 numbers: a polygon or a rotated box; export axis-aligned boxes"),
        (f"{CAR} 0.9 1.7", "id 1.7 is not a whole number"),
        (f"{CAR} 0.9 1.23457e+06", "id 1.23457e+06 is rounded and may have lost digits"),
        ("car 0.3 0.4 0.2 0.5", "is 'car 0.3"),
        ("1.5 0.3 0.4 0.2 0.5", "is '1.5 0.3"),
        ("2 0.3 nan 0.2 0.5", "is '2 0.3 nan"),
    ],
)
def test_wrong_lines_are_reported(line: str, sentence: str, tmp_path: Path) -> None:
    image(tmp_path / "images/cam1_1.jpg")
    file = text(tmp_path / "labels/cam1_1.txt", line)  # every line is wrong
    dataset, wrong = checked(tmp_path)
    assert not len(dataset.gallery) and len(wrong) == 1
    assert wrong[0].startswith(f"{file}, line 1: ") and sentence in wrong[0]
    with pytest.raises(InputError, match=r"cam1_1.txt, line 1"):
        open_dataset(tmp_path)


def test_labels_without_image_and_images_without_labels(tmp_path: Path) -> None:
    image(tmp_path / "images/cam1_1.jpg")
    image(tmp_path / "images/cam1_2.jpg")
    text(tmp_path / "labels/cam1_1.txt", CAR, CAR)
    file = text(tmp_path / "labels/cam1_9.txt", CAR)
    text(tmp_path / "labels/classes.txt", "car")
    dataset, wrong = checked(tmp_path)
    assert len(dataset.gallery) == 1
    assert wrong == [
        f"{tmp_path / 'labels/cam1_1.txt'}, line 2: this id or box is already in line 1; remove one.",
        f"{file}: its image cam1_9 is not in images, so its boxes are not used; put the image there.",
    ]
    assert "images without a file in labels, which hold no boxes: 1." in dataset.notes
    for path in (tmp_path / "labels").iterdir():
        path.write_text("")
    with pytest.raises(InputError, match=r"labels holds no boxes; write a line for each"):
        open_dataset(tmp_path)


def test_text_files_of_a_video(tmp_path: Path) -> None:
    video = write_video(tmp_path / "cam1.mp4", size=(200, 100))
    text(tmp_path / "labels/cam1_1.txt", f"{CAR} 0.9 7")
    text(tmp_path / "labels/cam1_6.txt", f"{CAR} 0.9 7", f"{TRUCK} 0.8 8")
    dataset, findings = checked(tmp_path)
    records = dataset.gallery
    assert not findings and records.path.tolist() == [str(video)] * 3 and records.frame.tolist() == [0, 5, 5]
    assert records.image_key.tolist()[:2] == ["cam1/000000/7", "cam1/000005/7"]
    assert records.tracklet.values.tolist() == ["cam1/7", "cam1/7", "cam1/8"]
    assert records.box[0].tolist() == pytest.approx([40, 15, 80, 65])


def test_text_files_beside_their_video_count_from_0_where_one_says_0(tmp_path: Path) -> None:
    write_video(tmp_path / "x_2026-05-01_07-00-00.mp4", size=(200, 100))
    for frame in (0, 5):
        text(tmp_path / f"x_2026-05-01_07-00-00_{frame}.txt", CAR)
    text(tmp_path / "remarks.txt", "rain")
    dataset, findings = checked(tmp_path)
    assert not findings and dataset.gallery.frame.tolist() == [0, 5]
    assert set(dataset.gallery.camera.names) == {"x"}
    assert dataset.gallery.image_key[0].startswith("x/2026-05-01_07-00-00/000000#")

"""Data as people bring them: shared/cases, each by the command of its README, and made-up folders of the same kinds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.command_line import Run, reported
from vreid.data.open import open_dataset
from vreid.errors import InputError

CASES = Path(__file__).parents[3] / "shared" / "cases"


def case(name: str) -> Path:
    """A case of shared/, which a checkout need not have."""
    if not (CASES / name).exists():
        pytest.skip(f"there is no {name} in shared/cases beside the checkout")
    return CASES / name


def check(run: Run, source: Path) -> dict[str, Any]:
    outcome = run(f"check {source} --json")
    assert outcome.code in (0, 1), outcome
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_01_ids_that_differ_in_their_last_digit(run: Run) -> None:
    found = check(run, case("01_cams"))
    assert "gallery 18 images, 0 identities, 2 cameras, 6 tracklets" in found["dataset"]
    assert found["findings"] == []
    assert "frames of camera c002 are those of camera c001." in found["notes"]


@pytest.mark.parametrize("copies", [3, 2])
def test_a_camera_whose_frames_are_all_those_of_another_is_a_note(copies: int, run: Run, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for camera in ("c001", "c002"):
        (tmp_path / camera / "img1").mkdir(parents=True)
        (tmp_path / camera / f"{camera}.txt").write_text(
            "".join(f"{frame},{7 + box},{90 * box},9,80,60,0.9,-1,-1,-1\n" for frame in (1, 2, 3) for box in (0, 1))
        )
    for frame in (1, 2, 3):
        for camera in ("c001", "c002"):
            if camera == "c001" or frame > copies:
                image = Image.fromarray(draws.integers(0, 256, (90, 200, 3), dtype=np.uint8))
            image.save(tmp_path / camera / "img1" / f"{frame:06d}.png")
    found = check(run, tmp_path)
    note = "frames of camera c002 are those of camera c001." in found["notes"]
    assert (note, len(found["findings"])) == ((True, 0) if copies == 3 else (False, 1))


def test_02_ultralytics(run: Run) -> None:
    found = check(run, case("02_ultra"))
    assert "gallery 8 images, 0 identities, 1 camera, 2 tracklets" in found["dataset"]
    assert {finding["check"] for finding in found["findings"]} == {"one camera"}


def test_04_frames_that_are_not_whole(run: Run) -> None:
    findings = check(run, case("04_frac2"))["findings"]
    assert [finding["where"].rpartition("/")[2] for finding in findings] == [
        f"{camera}.txt, line {line}" for camera in ("c001", "c002") for line in (1, 2, 3)
    ]
    assert all("is not a whole number" in finding["message"] for finding in findings)


def test_04_kitti(run: Run) -> None:
    found = check(run, case("04_kitti"))
    assert "gallery 6 images, 0 identities, 2 cameras, 2 tracklets" in found["dataset"] and found["findings"] == []


def test_05_cityflow(run: Run) -> None:
    findings = check(run, case("05/aic"))["findings"]
    assert [finding["check"] for finding in findings] == ["video without frames"] * 2
    assert all("vdo.avi" in finding["where"] and "ffmpeg" in finding["fix"] for finding in findings)
    reported(run(f"extract nothing {case('05/aic')} --out nowhere"), "vdo.avi", "img1/%06d.jpg")
    found = check(run, case("05/aicf"))
    assert "gallery 12 images, 2 identities, 2 cameras, 4 tracklets" in found["dataset"] and found["findings"] == []
    assert any("--identities local" in note for note in found["notes"])
    assert "0 identities" in run(f"check {case('05/aicf')} --identities local").out
    assert "2 identities" in run(f"check {case('05/aicf')} --identities global").out


def test_12_the_folder_above(run: Run) -> None:
    above, own = check(run, case("12b")), check(run, case("12b/Market"))
    assert above == own and "train 6 images, 3 identities" in own["dataset"] and own["findings"] == []


def test_13_images_as_cameras_and_tools_write_them(run: Run) -> None:
    found = check(run, case("13_images/wild"))
    assert "gallery 21 images" in found["dataset"]  # of 22
    assert any("1 file is no image that can be read (.heic)" in note and "0001_c016" in note for note in found["notes"])
    broken = [finding for finding in found["findings"] if finding["check"] == "unreadable image"]
    assert [finding["where"].rpartition("_")[2] for finding in broken] == ["trunc.jpg", "zero.jpg", "f.tiff"]


def test_15_a_result_file_is_named(run: Run) -> None:
    facts = json.loads(run(f"check {case('15_result/track3.txt')} --json").out)
    assert facts["dataset"] == "AI City multi-camera result: TrackBoxes: 12 boxes, 2 identities, 2 cameras"
    assert facts["findings"] == [] and "only its lines are checked" in facts["notes"][0]
    reported(run(f"extract nothing {case('15_result/track3.txt')} --out nowhere"), "is an AI City multi-camera file")


def test_17_spelling(run: Run) -> None:
    folder = case("17_spelling")
    (row,) = json.loads(run(f"evaluate {folder}/f.npy --records {folder}/ok.csv --json").out)
    metrics = row["parts"]["all cameras"]
    assert (round(metrics["mAP"], 3), round(metrics["rank1"], 3), metrics["num_queries"]) == (0.705, 0.889, 18)
    reported(run(f"evaluate {folder}/f.npy --records {folder}/cammix.csv"), "cammix.csv", "'c001'", "'1'")


# ------------------------------------------------------------------------------------------------- folders


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, path.name)))
    Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path, "JPEG")


def market(folder: Path) -> Path:
    for split, vehicles in (("bounding_box_train", (1, 2)), ("bounding_box_test", (3, 4)), ("query", (3, 4))):
        for vehicle in vehicles:
            for camera in (1, 2):
                image(folder / split / f"{vehicle:04d}_c{camera}s1_{split}.jpg")
        (folder / split / "Thumbs.db").write_bytes(b"x")
        (folder / split / ".DS_Store").write_bytes(b"x")
        (folder / split / f"._0001_c1s1_{split}.jpg").write_bytes(b"\0\5\26\7")
    return folder


LITTER = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", ".Trashes")


@pytest.mark.parametrize("depth", ["", "a", "a/b"])
def test_a_data_set_is_found_below_what_systems_leave_behind(depth: str, tmp_path: Path) -> None:
    folder = market(tmp_path / "top" / depth / "Market")
    for name in LITTER:
        shutil.copytree(folder, tmp_path / "top" / name / "Market")
    (tmp_path / "top" / "._Market").write_bytes(b"x")
    (tmp_path / "top" / "readme.txt").write_text("hello")
    right, found = open_dataset(folder), open_dataset(tmp_path / "top")
    assert repr(found) == repr(right) and "train 4 images, 2 identities" in repr(right)
    assert found.fingerprint() == right.fingerprint()


def test_published_data_below_a_folder_keep_their_protocol(tmp_path: Path) -> None:
    folder = tmp_path / "downloads" / "my copy"
    for split in ("train", "query", "test"):
        image(folder / f"image_{split}" / "0002_c002_00030600_0.jpg")
        (folder / f"name_{split}.txt").write_text("0002_c002_00030600_0.jpg\n")
    for source in (tmp_path, tmp_path / "downloads"):
        assert open_dataset(source).name == "VeRi-776" and open_dataset(source).protocol.name == "veri"


def test_several_data_sets_in_a_folder_are_named(tmp_path: Path) -> None:
    market(tmp_path / "one")
    market(tmp_path / "two")
    with pytest.raises(InputError, match=r"holds several data sets \(one, two\); name one of them"):
        open_dataset(tmp_path)


def test_one_vehicle_of_many_is_no_data_set(tmp_path: Path) -> None:
    for vehicle in ("red_taxi", "bus"):
        image(tmp_path / vehicle / "c001_1.jpg")
    (tmp_path / "bus" / "notes.csv").write_text("a,b\n1,2\n")
    assert open_dataset(tmp_path).gallery.identity.names.tolist() == ["bus", "red_taxi"]


OTHERS = ["a.heic", "b.HEIC", "c.avif", "d.cr2", "e.mp4", "f.zip"]


@pytest.mark.parametrize("folder", [".", "red_taxi", "query"])
def test_files_passed_over_are_counted_and_named_once(folder: str, tmp_path: Path) -> None:
    image(tmp_path / folder / "0001_c001_1.jfif")
    image(tmp_path / folder / "0001_c002_1.JPG")
    for name in OTHERS:
        (tmp_path / folder / name).write_bytes(b"x")
    for name in ("Thumbs.db", "readme.txt"):
        (tmp_path / folder / name).write_bytes(b"x")
    dataset = open_dataset(tmp_path)
    assert len(dataset.query) == 2
    (note,) = (note for note in dataset.notes if "can be read" in note)
    kinds, first = ".avif, .cr2, .heic, .mp4, .zip", tmp_path / folder / "a.heic"
    assert note == f"6 files are no images that can be read ({kinds}), first {first}; convert to JPEG or PNG."


def test_a_folder_of_labels_that_is_not_read_is_named(tmp_path: Path) -> None:
    image(tmp_path / "images" / "0001_c001_1.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0001_c001_1.json").write_text("{}")
    note = "folder labels holds no images (1 file, first 0001_c001_1.json) and is not read."
    assert note in open_dataset(tmp_path).notes


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty (0 bytes)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC image"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "is an AVIF image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (b"nonsense", "is not an image that can be read"),
    ],
)
def test_files_called_images_are_named_as_what_they_are(
    content: bytes, sentence: str, tmp_path: Path, run: Run
) -> None:
    image(tmp_path / "0001_c001_1.jpg")
    (tmp_path / "0001_c002_1.jpg").write_bytes(content)
    (finding,) = (f for f in check(run, tmp_path)["findings"] if f["check"] == "unreadable image")
    assert finding["where"] == str(tmp_path / "0001_c002_1.jpg") and finding["message"].startswith(sentence)


def test_every_line_wrong_is_reported_line_by_line(tmp_path: Path, run: Run) -> None:
    items = "<Item imageName='a.png' vehicleID='1' cameraID='c1'/><Item vehicleID='1'/>"
    image(tmp_path / "cityflow/image_train/000001.jpg")
    (tmp_path / "cityflow/train_label.xml").write_text(f"<TrainingImages><Items>{items}</Items></TrainingImages>")
    image(tmp_path / "vehicleid/image/1.jpg")
    image(tmp_path / "vric/train_images/1.jpg")
    image(tmp_path / "tracker/c001/img1/000001.jpg")
    for name in ("vehicleid/train_test_split/train_list.txt", "vric/vric_train.txt", "tracker/c001/c001.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\ntwo\n")
    (tmp_path / "table.csv").write_text("path,x,y,w,h\na.jpg,1,1,0,0\nb.jpg,1,1,-3,4\n")
    for source in ("cityflow", "vehicleid", "vric", "tracker", "table.csv"):
        found = check(run, tmp_path / source)
        assert len(found["findings"]) == 2, source
        assert [finding["where"].rpartition(" ")[2] for finding in found["findings"]] in (["1", "2"], ["2", "3"])
        reported(run(f"extract nothing {tmp_path / source} --out {tmp_path / 'out'}"), str(tmp_path / source))


def test_what_was_found_before_reading_stopped_is_shown(tmp_path: Path, run: Run) -> None:
    image(tmp_path / "image_train/000001.jpg")
    (tmp_path / "train_label.xml").write_text("<T><Item imageName='x' vehicleID='1' cameraID='1'/></T>")
    (tmp_path / "test_label.xml").write_text("<T><Item")
    outcome = run(f"check {tmp_path}")
    assert "Item 1" in outcome.out and "broken XML" in reported(outcome)


def test_images_that_lie_too_deep_are_named(tmp_path: Path, run: Run) -> None:
    image(tmp_path / "image_02/0000/000000.png")  # KITTI tracking as distributed
    (tmp_path / "label_02").mkdir()
    (tmp_path / "label_02/0000.txt").write_text("0 7 Car 0 0 -1.5 1 1 40 30 1 1 1 1 1 1 1\n")
    reported(run(f"check {tmp_path}"), "its images lie two folders down (in image_02/...)")


def test_a_table_in_two_spellings_is_shown_by_check(tmp_path: Path, run: Run) -> None:
    lines = ["path,identity,camera,split"]
    for number in range(8):
        image(tmp_path / f"{number}.jpg")
        camera = f"c{number % 2 + 1:03d}" if number < 4 else number % 2 + 1
        lines.append(f"{number}.jpg,{number // 2 % 2}.0,{camera},{'query' if number < 4 else 'gallery'}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    (finding,) = (f for f in check(run, tmp_path / "t.csv")["findings"] if f["check"] == "inconsistent spelling")
    assert (
        finding["where"].endswith("t.csv, line 2")
        and "'c001' is probably another spelling of '1'" in finding["message"]
    )

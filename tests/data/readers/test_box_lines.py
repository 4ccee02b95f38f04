"""Files of boxes in the formats in circulation, and how they meet their frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.command_line import Run, reported
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.errors import InputError

MOT = "{frame},{id},20,10,30,15,0.9,-1,-1,-1"
KITTI = "{frame} {id} Car 0 0 -1.57 20 10 50 25 1.5 1.6 3.9 1.0 1.6 20.0 -1.5"
AI_CITY = "{camera} {id} {frame} 20 10 30 15 -1 -1"
SPACED = "{frame} {id} 20 10 30 15 0.9 -1 -1 -1"


def frames(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng([number, sum(map(ord, str(folder)))])
        Image.fromarray(rng.integers(0, 255, (40, 64, 3), dtype=np.uint8)).save(folder / name)


def camera(place: Path, lines: list[str], names: list[str], file: str = "gt/gt.txt") -> Path:
    """Write the folder of a camera; return its file of boxes."""
    frames(place / "img1", names)
    (place / file).parent.mkdir(exist_ok=True)
    (place / file).write_text("\n".join(lines) + "\n")
    return place / file


def checked(source: Path) -> tuple[Dataset, list[str]]:
    """The data set as `vreid check` opens it, and what its reader tells."""
    findings: list[Finding] = []
    dataset = open_dataset(source, on_finding=findings.append)
    return dataset, [str(finding) for finding in findings]


NAMES = [f"{number:06d}.jpg" for number in range(1, 5)]


@pytest.mark.parametrize("form", [MOT, SPACED, KITTI])
@pytest.mark.parametrize("own", ["gt/gt.txt", "c001.txt", "mtsc/mtsc_deepsort_ssd512.txt"])
def test_lines_of_each_format(form: str, own: str, tmp_path: Path) -> None:
    lines = [form.format(frame=frame, id=7) for frame in (1, 2, 4)]
    camera(tmp_path / "cams" / "c001", lines, NAMES, own)
    dataset, wrong = checked(tmp_path / "cams")
    assert wrong == []
    assert dataset.gallery.box.tolist() == [[20, 10, 50, 25]] * 3
    assert dataset.gallery.frame.tolist() == [1, 2, 4]
    assert dataset.gallery.tracklet.values.tolist() == ["c001/7"] * 3
    assert dataset.gallery.vehicle_type.values.tolist() == (["car"] * 3 if form is KITTI else [""] * 3)


def test_kitti_lines_that_are_no_vehicles_are_counted(tmp_path: Path) -> None:
    lines = [KITTI.format(frame=1, id=7), "1 -1 DontCare -1 -1 -10 1 1 9 9 -1 -1 -1 -1000 -1000 -1000 -10"]
    file = camera(tmp_path / "cams" / "c001", [*lines, lines[0].replace("7 Car", "8 Pedestrian")], NAMES)
    dataset, wrong = checked(tmp_path / "cams")
    assert wrong == [] and len(dataset.gallery) == 1
    assert f"lines that are not vehicles (DontCare, Pedestrian, Cyclist, ...) in {file}: 2, not used." in dataset.notes


@pytest.mark.parametrize("form", [MOT, SPACED, KITTI])
def test_large_ids_stay_apart_and_untracked_boxes_have_none(form: str, tmp_path: Path) -> None:
    ids = ["4873372822379954177", "4873372822379954178", "4873372822379954179", "18446744073709551614"]
    lines = [form.format(frame=frame, id=id_) for frame in (1, 2) for id_ in ids]
    lines += [form.format(frame=3, id=2**64 - 1), form.format(frame=4, id=-1)]
    camera(tmp_path / "cams" / "c001", lines, NAMES)
    dataset, wrong = checked(tmp_path / "cams")
    assert wrong == [] and len(dataset.gallery) == 10
    assert sorted(set(dataset.gallery.tracklet.values)) == ["", *sorted(f"c001/{id_}" for id_ in ids)]


@pytest.mark.parametrize(
    ("frame", "id_", "fault"),
    [
        ("1.5", "7", "frame 1.5 is not a whole number"),
        ("1", "1.7", "id 1.7 is not a whole number"),
        ("1", "4.873372822379954e+18", "id 4.873372822379954e+18 is rounded and may have lost digits"),
        ("1e3", "7", "frame 1e3 is rounded and may have lost digits"),
    ],
)
@pytest.mark.parametrize("form", [MOT, SPACED, KITTI])
def test_numbers_that_are_not_whole_are_reported_by_line(
    form: str, frame: str, id_: str, fault: str, tmp_path: Path, run: Run
) -> None:
    file = camera(tmp_path / "cams" / "c001", [form.format(frame=frame, id=id_)] * 2, NAMES)
    dataset, wrong = checked(tmp_path / "cams")  # every line is wrong, and each is reported
    assert [sentence.partition(";")[0] for sentence in wrong] == [f"{file}, line {line}: {fault}" for line in (1, 2)]
    assert not len(dataset.gallery)
    assert run(f"check {tmp_path / 'cams'} --json").code == 1
    with pytest.raises(InputError, match=rf"line 1: {fault[:8]}"):
        open_dataset(tmp_path / "cams")


def test_exact_floats_of_numpy_are_whole(tmp_path: Path) -> None:
    rows = np.array([[1, 7, 20, 10, 30, 15, 1], [2, 7, 20, 10, 30, 15, 1]])
    file = camera(tmp_path / "cams" / "c001", [], NAMES)
    np.savetxt(file, rows, delimiter=",")  # 1.000000000000000000e+00,...
    dataset, wrong = checked(tmp_path / "cams")
    assert wrong == [] and dataset.gallery.tracklet.values.tolist() == ["c001/7"] * 2


def test_lines_of_no_format(tmp_path: Path) -> None:
    file = camera(tmp_path / "cams" / "c001", ["frame,id,x1,y1,x2,y2", "1 7 Car 0 0", '{"frame": 1}'], NAMES)
    _, wrong = checked(tmp_path / "cams")
    assert len(wrong) == 3 and all(sentence.startswith(f"{file}, line {n}: is ") for n, sentence in enumerate(wrong, 1))


# ------------------------------------------------------------------------------------------------- frames

SCHEMES: list[Callable[[int], str]] = [
    lambda n: f"{n:06d}.jpg",
    lambda n: f"frame_{n:04d}.png",
    lambda n: f"img{n:06d}.jpg",
    lambda n: f"cam1_{n}.jpg",
    lambda n: f"{n}_cam1.jpg",
    lambda n: f"c001-{n}-1920x1080.png",
]


@pytest.mark.parametrize("scheme", range(len(SCHEMES)))
def test_frames_by_the_number_in_their_name(scheme: int, tmp_path: Path) -> None:
    names = [SCHEMES[scheme](number) for number in range(1, 12)]
    camera(tmp_path / "cams" / "c001", [MOT.format(frame=frame, id=7) for frame in (2, 10, 11)], names)
    dataset, wrong = checked(tmp_path / "cams")
    assert wrong == [] and [Path(path).name for path in dataset.gallery.path] == [names[1], names[9], names[10]]


@pytest.mark.parametrize(
    ("start", "boxes", "verb"),
    [
        (1, range(4), "add 1 to"),
        (0, range(1, 5), "subtract 1 from"),
        (1001, range(1, 5), "add 1,000 to"),
    ],
)
@pytest.mark.parametrize("form", [MOT, KITTI, AI_CITY])
def test_a_constant_shift_is_named_with_its_fix(start: int, boxes: range, verb: str, form: str, tmp_path: Path) -> None:
    lines = [form.format(frame=frame, id=7, camera=1) for frame in boxes]
    names = [f"frame_{start + number:04d}.png" for number in range(4)]
    if form is AI_CITY:
        frames(tmp_path / "cams" / "c001" / "img1", names)
        file = tmp_path / "cams" / "ground_truth_train.txt"
        file.write_text("\n".join(lines))
    else:
        file = camera(tmp_path / "cams" / "c001", lines, names)
    dataset, (wrong,) = checked(tmp_path / "cams")
    assert not len(dataset.gallery)
    assert wrong.startswith(f"{file}, line ") and "the numbers are shifted by" in wrong
    assert wrong.endswith(f"{verb} the frame numbers in {file.name}, or renumber the files.")
    with pytest.raises(InputError, match="shifted"):
        open_dataset(tmp_path / "cams")


def test_what_is_no_shift(tmp_path: Path) -> None:
    camera(tmp_path / "a" / "c001", [MOT.format(frame=frame, id=7) for frame in (1, 3, 9)], NAMES)
    dataset, wrong = checked(tmp_path / "a")  # frame 9 is missing: the doctor reads every image and says so
    assert wrong == [] and len(dataset.gallery) == 3 and dataset.gallery.path[2].endswith("000009.jpg")
    camera(tmp_path / "b" / "c001", [MOT.format(frame=frame, id=7) for frame in (1, 2)], ["000000.jpg", *NAMES])
    note = "frames of camera c001 are numbered from 0; its boxes are taken to count from 0 as well."
    assert note in checked(tmp_path / "b")[0].notes


def test_two_frames_of_one_number_are_rejected(tmp_path: Path) -> None:
    camera(tmp_path / "cams" / "c001", [MOT.format(frame=1, id=7)], ["a1.jpg", "b1.jpg"])
    with pytest.raises(InputError, match=r"img1: a1.jpg and b1.jpg have one frame number"):
        open_dataset(tmp_path / "cams")


# ------------------------------------------------------------------------------------------------- CityFlow, AI City


def cityflow(folder: Path, *, extracted: bool) -> Path:
    """A tree of CityFlow for multi-camera tracking: two cameras of one scene, ids that are global."""
    for name in ("c001", "c002"):
        place = folder / "train" / "S01" / name
        camera(place, [MOT.format(frame=frame, id=id_) for id_ in (1, 2) for frame in (1, 2)], NAMES)
        (place / "vdo.avi").write_bytes(b"RIFF")
        if not extracted:
            for image in (place / "img1").iterdir():
                image.unlink()
            (place / "img1").rmdir()
    return folder


@pytest.mark.parametrize("depth", ["", "train", "train/S01"])
def test_ids_are_vehicles_by_layout_or_option(depth: str, tmp_path: Path, run: Run) -> None:
    folder = cityflow(tmp_path / "AIC22", extracted=True) / depth
    records = open_dataset(folder).gallery
    assert records.camera.distinct == 2 and records.tracklet.distinct == 4 and len(records) == 8
    assert records.identity.values.tolist() == ["1", "2"] * 4 and set(records.scene.values) == {"S01"}
    local = open_dataset(folder, identities="local").gallery
    assert not local.identity.known.any() and local.tracklet == records.tracklet
    assert "--identities local" in run(f"check {folder} --json").out
    camera(tmp_path / "plain" / "a", [MOT.format(frame=1, id=3)], NAMES)
    assert open_dataset(tmp_path / "plain").gallery.identity.values.tolist() == [""]
    assert open_dataset(tmp_path / "plain", identities="global").gallery.identity.values.tolist() == ["3"]
    assert "1 identity" in run(f"check {tmp_path / 'plain'} --identities global").out
    reported(
        run(f"check {folder} --identities vehicles"), "identities vehicles: is unknown; use auto, global or local."
    )


def test_videos_without_frames_are_named_with_the_command(tmp_path: Path, run: Run) -> None:
    folder = cityflow(tmp_path / "AIC22", extracted=False)
    dataset, wrong = checked(folder)
    assert not len(dataset.gallery) and len(wrong) == 2
    assert wrong[0].startswith(f"{folder / 'train/S01/c001/vdo.avi'}: its frames are not extracted")
    assert "ffmpeg -i vdo.avi -start_number 1 -qscale:v 2 img1/%06d.jpg" in wrong[0]
    with pytest.raises(InputError, match=r"vdo.avi: its frames are not extracted"):
        open_dataset(folder)


def test_cameras_of_one_name_in_several_places(tmp_path: Path) -> None:
    for site in ("north", "south"):
        camera(tmp_path / "cams" / site / "cam1", [MOT.format(frame=1, id=3)], NAMES)
    records = open_dataset(tmp_path / "cams").gallery
    assert records.camera.values.tolist() == ["north/cam1", "south/cam1"] and records.tracklet.distinct == 2


@pytest.mark.parametrize("name", ["ground_truth_train.txt", "track1.txt", "track3.txt", "eval/ground_truth_train.txt"])
def test_one_file_for_all_cameras(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "AIC22"
    lines = [
        AI_CITY.format(camera=number, id=id_, frame=frame) for number in (41, 2) for id_ in (5, 6) for frame in (1, 2)
    ]
    for place in ("train/S01/c002", "train/S09/c041"):
        frames(folder / place / "img1", NAMES)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(lines))
    records = open_dataset(folder / name).gallery
    assert sorted(set(records.camera.values)) == ["c002", "c041"] and len(records) == 8
    assert sorted(set(records.identity.values)) == ["5", "6"] and records.tracklet.distinct == 4
    if "ground" in name:
        assert len(open_dataset(folder).gallery) == 8


def test_one_file_without_its_cameras_is_named(tmp_path: Path, run: Run) -> None:
    (tmp_path / "track3.txt").write_text(AI_CITY.format(camera=41, id=5, frame=1) + "\n")
    done = run(f"extract nothing {tmp_path / 'track3.txt'} --out nowhere")
    reported(done, "track3.txt: is an AI City multi-camera file", "camera 41")
    done = run(f"check {tmp_path / 'track3.txt'}")
    assert done.code == 0 and "no frames of its cameras are beside it" in done.out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MOT.format(frame=1, id=7), "is tracker output"),
        (SPACED.format(frame=1, id=7), "is tracker output"),
        (KITTI.format(frame=1, id=7), "is KITTI tracking"),
        (" ".join(map(str, range(1, 101))), "is an AI City submission"),
    ],
)
def test_other_lists_of_numbers_are_named(text: str, sentence: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.txt").write_text(f"{text}\n{text}\n")
    reported(run(f"check {tmp_path / 'a.txt'}"), f"a.txt: {sentence}")

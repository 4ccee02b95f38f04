"""The data doctor: every check finds its defect, names the file, and a clean world has no finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.data.dataset import Dataset, open_dataset
from vreid.data.doctor import Finding, examine
from vreid.data.records import Records
from vreid.retrieval.protocols import MARKET


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> str:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return str(path)


@pytest.fixture
def clean(tmp_path: Path) -> Dataset:
    """Two vehicles to train on and two to find, each at two cameras."""

    def split(name: str, rows: list[tuple[str, str]]) -> Records:
        paths = [picture(tmp_path / f"{name}{i}.png", seed=hash_of(name, i)) for i in range(len(rows))]
        identity, camera = zip(*rows, strict=True)
        tracklet = [f"{name}-{c}-{i}" for i, c in rows]
        return Records.of(path=paths, identity=identity, camera=camera, tracklet=tracklet)

    train = split("train", [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")])
    query = split("query", [("3", "a"), ("4", "b")])
    gallery = split("gallery", [("3", "b"), ("4", "a"), ("4", "b")])
    return Dataset("made", train, query, gallery, MARKET)


def hash_of(name: str, number: int) -> int:
    return 100 * ["train", "query", "gallery"].index(name) + number


def only(dataset: Dataset) -> Finding:
    findings = examine(dataset, workers=1)
    assert len(findings) == 1, findings
    return findings[0]


def test_clean_data_has_no_finding(clean: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    assert examine(clean, workers=2, progress=lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (9, 9)


def test_a_simulated_world_has_no_finding(tiny_world: Path) -> None:
    assert examine(open_dataset(tiny_world, labels="auto")) == []


def test_missing_and_truncated_images_are_named(clean: Dataset) -> None:
    gone, cut = clean.train.path[1], clean.gallery.path[0]
    Path(gone).unlink()
    Path(cut).write_bytes(Path(cut).read_bytes()[:100])
    findings = examine(clean)
    assert [(f.check, f.split, f.paths) for f in findings] == [
        ("unreadable image", "train", (gone,)),
        ("unreadable image", "gallery", (cut,)),
    ]
    assert gone in findings[0].message


def test_tiny_crops_are_counted_by_box_where_there_is_one(clean: Dataset) -> None:
    boxes = np.full((2, 4), np.nan)
    boxes[1] = [0, 0, 30, 10]
    finding = only(replace(clean, query=clean.query.with_(box=boxes)))
    assert (finding.check, finding.paths) == ("tiny crop", (clean.query.path[1],))


def test_one_camera_for_everything(clean: Dataset) -> None:
    finding = only(replace(clean, train=clean.train.with_(camera=["a"] * 4)))
    assert finding.check == "one camera"
    assert "'a'" in finding.message


def test_a_camera_for_every_image(clean: Dataset, tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"many{i}.png", seed=1000 + i) for i in range(12)]
    train = Records.of(path=paths, identity=[str(i // 2) for i in range(12)], camera=[str(i) for i in range(12)])
    finding = only(replace(clean, train=train, query=clean.query[:0], gallery=clean.gallery[:0]))
    assert finding.check == "camera per image"


def test_identities_that_stay_in_one_camera(clean: Dataset) -> None:
    findings = examine(replace(clean, train=clean.train.with_(identity=["1", "5", "6", "2"])))
    assert [f.check for f in findings] == ["identities in one camera"]


def test_a_query_whose_only_mates_are_in_its_own_camera(clean: Dataset) -> None:
    finding = only(replace(clean, query=clean.query.with_(camera=["b", "b"])))
    assert (finding.check, finding.paths) == ("query without mate", (clean.query.path[0],))


def test_a_vehicle_in_train_and_test(clean: Dataset) -> None:
    findings = examine(replace(clean, train=clean.train.with_(identity=["1", "1", "4", "4"])))
    assert [(f.check, f.split) for f in findings] == [
        ("identity in train and test", "query"),
        ("identity in train and test", "gallery"),
    ]


def test_the_same_bytes_under_two_names(clean: Dataset) -> None:
    Path(clean.gallery.path[2]).write_bytes(Path(clean.train.path[0]).read_bytes())
    finding = only(clean)
    assert (finding.check, finding.split, finding.paths) == ("same picture twice", "gallery", (clean.gallery.path[2],))
    assert clean.train.path[0] in finding.message


def test_two_boxes_of_one_frame_are_two_pictures(clean: Dataset) -> None:
    frame = clean.query.path[0]
    query = clean.query.with_(path=[frame, frame], box=[[0, 0, 30, 30], [5, 0, 35, 30]])
    assert examine(replace(clean, query=query)) == []


@pytest.mark.parametrize(("column", "check"), [("camera", "two cameras"), ("identity", "two identities")])
def test_a_tracklet_that_mixes(clean: Dataset, column: str, check: str) -> None:
    rows = slice(0, 2) if column == "camera" else slice(0, 3, 2)
    tracklets = clean.train.tracklet.values.tolist()
    for row in range(4)[rows]:
        tracklets[row] = "mixed"
    finding = only(replace(clean, train=clean.train.with_(tracklet=tracklets)))
    assert finding.check == f"tracklet over {check}"
    assert "mixed" in finding.message

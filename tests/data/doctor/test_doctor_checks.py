"""What the doctor must not find, and what it must: likeness, mates under each protocol, clocks, spellings, reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from oracles.duplicates import near_copies as slow_near_copies
from support.listeners import Steps
from support.town import START, Town
from vreid.data.dataset import Dataset
from vreid.data.doctor import Case, duplicates, examine, image_scan
from vreid.data.doctor.clocks import in_words
from vreid.data.doctor.duplicates import near_copies
from vreid.data.doctor.label_checks import query_without_positive, two_spellings
from vreid.data.findings import Origin
from vreid.data.protocols import CAMERA_LESS, CROSS_CAMERA, MARKET, VEHICLE_ID, VERI, VRIC, Protocol
from vreid.data.records import Records

NOTHING = Records.of(path=[])


def case_of(dataset: Dataset) -> Case:
    return Case.of(dataset, workers=1, now=START)


def scene(seed: int, size: tuple[int, int] = (64, 48), detail: int = 9) -> Image.Image:
    """An image with structure at every scale, as photographs have."""
    rng = np.random.default_rng(seed)
    large = rng.integers(0, 256, (detail, detail, 3)).astype(np.uint8)
    fine = rng.normal(0, 8, (size[1], size[0], 3))
    soft = np.asarray(Image.fromarray(large).resize(size, Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray(np.clip(soft + fine, 0, 255).astype(np.uint8))


def saved(image: Image.Image, path: Path, **options: Any) -> str:
    image.save(path, **options)
    return str(path)


# ------------------------------------------------------------------------------------------------------------ likeness


def of_two(tmp_path: Path, one: Image.Image, other: Image.Image, **options: Any) -> list[str]:
    """Checks that fail when two vehicles in training, and others beside them, show these two images."""
    paths = [saved(one, tmp_path / "one.png"), saved(other, tmp_path / "other.jpg", **{"quality": 95, **options})]
    rest = [saved(scene(100 + i), tmp_path / f"{i}.png") for i in range(4)]
    train = Records.of(path=[*paths, *rest], identity=["1", "2", "1", "2", "3", "3"], camera=list("aabbab"))
    return [finding.check for finding in examine(Dataset("pairs", train, NOTHING, NOTHING, MARKET))]


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda image: image, {"quality": 75}),
        (lambda image: image.resize((96, 72)), {}),
        (lambda image: image.resize((50, 50)), {}),
        (lambda image: image.point(lambda level: 0.8 * level + 20), {}),
    ],
    ids=["saved again", "enlarged", "squeezed", "paler"],
)
def test_copies_that_were_changed_are_found(tmp_path: Path, change: Any, options: dict[str, int]) -> None:
    for seed in range(3):
        image = scene(seed)
        assert of_two(tmp_path, image, change(image), **options) == ["image with two identities"]


def test_images_that_are_merely_alike_are_not(tmp_path: Path) -> None:
    image = scene(1)
    moved = Image.fromarray(np.roll(np.asarray(image), 4, axis=1))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    repainted = Image.fromarray(np.asarray(image)[:, :, ::-1].copy())
    for other in (moved, mirrored, repainted):
        assert of_two(tmp_path, image, other) == []


def test_two_dark_vehicles_before_one_dark_wall_are_two(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wall = np.full((48, 64, 3), 12.0)
    wall[30:] = 25
    images_of = []
    for left in (14, 18):
        levels = wall + rng.normal(0, 3, wall.shape)
        levels[18:36, left : left + 34] += 6
        images_of.append(Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)))
    assert of_two(tmp_path, *images_of) == []


@settings(max_examples=15)
@given(st.integers(0, 10**6))
@example(28224)  # two neighbours that one float32 cannot tell apart
def test_near_copies_are_those_of_the_slow_search(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("near")
    originals = [scene(seed + number, (24, 20), detail=3) for number in range(5)]
    paths = []
    for number in range(14):
        levels = np.asarray(originals[rng.integers(5)], dtype=float) + rng.normal(
            0, rng.choice([1, 6, 12]), (20, 24, 3)
        )
        paths.append(saved(Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)), folder / f"{number}.png"))
    labels = {"identity": rng.choice(["1", "2", ""], 14).tolist(), "camera": rng.choice(["a", "b", ""], 14).tolist()}
    everything = Records.of(path=paths, **labels)
    case = case_of(Dataset("near", everything[:6], everything[6:9], everything[9:], MARKET))
    assert set(near_copies(case, set())) == slow_near_copies(case)


def test_a_crop_that_cut_nothing_off_is_no_copy(tmp_path: Path) -> None:
    one, other = (saved(scene(number), tmp_path / f"{number}.png") for number in range(2))
    variant = ["original", "crop", "original"]
    train = Records.of(path=[one, one, other], image_key=["a", "a", "b"], variant=variant, identity=["1", "1", "2"])
    assert examine(Dataset("copies", train, NOTHING, NOTHING, MARKET)) == []


@pytest.mark.parametrize(
    ("protocol", "camera", "expected"),
    [
        (MARKET, "a", []),  # as VeRi: the query is in the gallery, but of its own camera
        (replace(VERI, junk={"q": ("g0",)}), "", []),
        (CAMERA_LESS, "", ["query in gallery"]),
        (VRIC, "a", ["query in gallery"]),
    ],
)
def test_a_query_in_the_gallery_is_wrong_where_the_protocol_leaves_it(
    tmp_path: Path, protocol: Protocol, camera: str, expected: list[str]
) -> None:
    paths = [saved(scene(number), tmp_path / f"{number}.png") for number in range(3)]
    query = Records.of(path=paths[:1], image_key=["q"], identity=["1"], camera=[camera])
    cameras = [camera, camera and "b", camera and "b"]
    gallery = Records.of(path=paths, image_key=["g0", "g1", "g2"], identity=["1", "1", "2"], camera=cameras)
    assert [f.check for f in examine(Dataset("set", NOTHING, query, gallery, protocol))] == expected


def test_boxes_of_one_frame_are_images_of_their_own_and_the_frame_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = saved(scene(3, (200, 100), detail=20), tmp_path / "frame.png")
    boxes = [[0, 0, 50, 50], [60, 0, 110, 50], [120, 40, 170, 100]]
    gallery = Records.of(path=[frame] * 3, image_key=list("abc"), box=boxes, camera=["c"] * 3, tracklet=list("abc"))
    reads = []
    read = image_scan.read_image
    monkeypatch.setattr(image_scan, "read_image", lambda path: reads.append(path) or read(path))
    assert examine(Dataset("frames", NOTHING, gallery[:0], gallery, CAMERA_LESS)) == []
    assert reads == [frame]


@pytest.mark.parametrize("at_a_time", [1, 3, 2048])
def test_suspected_copies_of_boxes_are_decoded_a_file_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    frames = [Image.new("RGB", (400, 300)) for _ in range(2)]
    boxes = [[x, y, x + width, y + width - 8] for x, width in ((0, 50), (100, 80), (200, 97)) for y in (0, 100, 200)]
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        for frame in frames:  # all but one box show the same in both frames
            frame.paste(scene(number + (frame is frames[1] and number == 4), (x2 - x1, y2 - y1)), (x1, y1))
    paths = [saved(frame, tmp_path / f"{number}.jpg", quality=90 - number) for number, frame in enumerate(frames)]
    gallery = Records.of(
        path=[path for path in paths for _ in boxes],
        image_key=[str(number) for number in range(2 * len(boxes))],
        box=boxes * 2,
        camera=["a"] * len(boxes) + ["b"] * len(boxes),
    )
    case = case_of(Dataset("frames", NOTHING, gallery[:0], gallery, CAMERA_LESS))
    reads: list[str] = []
    read = duplicates.read_image
    monkeypatch.setattr(duplicates, "read_image", lambda path: reads.append(path) or read(path))
    monkeypatch.setattr(duplicates, "PAIRS", at_a_time)
    found = list(near_copies(case, set()))
    assert set(found) == slow_near_copies(case) and 7 <= len(found) <= 9 and found == sorted(found)
    assert set(reads) == set(paths) and (at_a_time == 1 or len(reads) <= 2 * -(-9 // at_a_time))


def test_an_image_that_vanishes_between_both_readings_is_no_copy(tmp_path: Path) -> None:
    paths = [saved(scene(1), tmp_path / name) for name in ("a.png", "b.png")]
    gallery = Records.of(path=paths, camera=["a", "b"])
    case = case_of(Dataset("gone", NOTHING, gallery[:0], gallery, CAMERA_LESS))
    assert list(near_copies(case, set())) == [(1, 0)]
    Path(paths[0]).unlink()
    assert list(near_copies(case, set())) == []


def test_boxes_in_shares_of_the_frame_are_reported_once(tmp_path: Path) -> None:
    paths = [saved(scene(number), tmp_path / f"{number}.png") for number in range(3)]
    boxes = [[0.1, 0.1, 0.5, 0.6], [0.2, 0.2, 0.9, 1], [0, 0, 0.5, 0.5]]
    gallery = Records.of(path=paths, box=boxes)
    assert [f.check for f in examine(Dataset("yolo", NOTHING, gallery[:0], gallery, CAMERA_LESS))] == [
        "box in relative coordinates"
    ]


# --------------------------------------------------------------------------------------------------------------- mates


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("12"), st.sampled_from("ab")), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(["1", "2", "", "junk"]), st.sampled_from(["a", "b", ""])), max_size=6),
    st.sampled_from([MARKET, CAMERA_LESS, VRIC, CROSS_CAMERA, VEHICLE_ID]),
)
def test_queries_without_a_mate_are_those_of_the_definition(
    asked: list[tuple[str, str]], there: list[tuple[str, str]], protocol: Protocol
) -> None:
    same = protocol in (CROSS_CAMERA, VEHICLE_ID)  # each image is a query against the others
    there = asked if same else there
    key = "g" if same else "q"
    lost = []
    for place, (identity, camera) in enumerate(asked):
        mates = [
            number
            for number, (other, where) in enumerate(there)
            if other == identity and not (protocol.needs_camera and where == camera) and not (same and number == place)
        ]
        if not mates:
            lost.append(f"{key}{place}")

    def records(rows: Sequence[tuple[str, str]], name: str) -> Records:
        return Records.of(
            path=[f"{name}{i}" for i in range(len(rows))], identity=[i for i, _ in rows], camera=[c for _, c in rows]
        )

    gallery = records(there, "g")
    case = case_of(Dataset("set", NOTHING, gallery if same else records(asked, "q"), gallery, protocol))
    found = [path for finding in query_without_positive(case) for path in finding.paths]
    silent = not gallery.identity.known.any() or (protocol.needs_camera and gallery.camera.distinct == 1)
    assert found == ([] if silent else lost)


# -------------------------------------------------------------------------------------------------- clocks, spellings


def checks_of(town: Town) -> list[str]:
    return [finding.check for finding in town.examine()]


def test_summer_time_is_seen_within_a_scene_only(tmp_path: Path) -> None:
    for scenes, expected in ((True, ["clock offset"]), (False, [])):
        town = Town(tmp_path / str(scenes))
        for row in town.rows:
            row["scene"] = "centre" if scenes else ""
            row["time"] += 3600 * (row["camera"] == "east")
        assert checks_of(town) == expected


def test_commuters_are_no_broken_clock(tmp_path: Path) -> None:
    """Seen by one camera in the morning and by the others eight hours later, give or take an hour."""
    town = Town(tmp_path)
    for number, row in enumerate(town.rows):
        row["time"] += (8 * 3600 + (number // 9 * 1009) % 7200) * (row["camera"] != "north")
    assert checks_of(town) == []


def test_two_clocks_that_are_off_are_both_named(tmp_path: Path) -> None:
    town = Town(tmp_path)
    for row in town.rows:
        row["time"] += {"north": 0, "east": 5, "south": 11}[row["camera"]] * 3600
    findings = town.examine()
    assert [f.check for f in findings] == ["clock offset"] * 2
    assert len({f.where for f in findings}) == 2


def test_undated_times_are_accepted(tmp_path: Path) -> None:
    town = Town(tmp_path)
    for row in town.rows:
        row["time"] -= START
    assert checks_of(town) == []
    town.rows[4]["time"] = -5
    assert checks_of(town) == ["time before 1990"]


@pytest.mark.parametrize(("factor", "unit"), [(10**3, "milli"), (10**6, "micro"), (10**9, "nano")])
def test_the_unit_of_a_time_is_named_with_its_divisor(tmp_path: Path, factor: int, unit: str) -> None:
    town = Town(tmp_path)
    for row in town.rows:
        row["time"] = int(row["time"] * factor)
    (finding,) = town.examine()
    assert f"{unit}seconds it is 2026-05-01 12:00" in finding.message
    assert finding.fix == f"divide the times by {factor:,}"


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.25, "3.25 s"), (150, "2 min"), (5400, "1 h 30 min"), (90061, "25 h 1 min")]
)
def test_spans_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("names", "odd"),
    [
        (["c1", "c1", "C001"], ["C001"]),
        (["1", "cam_1", "1"], ["cam_1"]),
        (["bridge", "Bridge", "bridge"], ["Bridge"]),
        (["c1", "c2", "c10", "c01x"], []),
        (["a1", "b1", "site 1 c1", "site 2 c1"], []),
    ],
)
def test_camera_names_in_two_spellings(names: list[str], odd: list[str]) -> None:
    train = Records.of(path=[f"{i}.jpg" for i in range(len(names))], camera=names)
    found = [f.paths[0] for f in two_spellings(case_of(Dataset("set", train, NOTHING, NOTHING, MARKET)))]
    assert [names[int(path.removesuffix(".jpg"))] for path in found] == odd


# ---------------------------------------------------------------------------------------------------- how it is said


def test_many_rows_are_one_finding_that_names_five_more_and_counts_the_rest(tmp_path: Path) -> None:
    town = Town(tmp_path)
    for number in range(0, 63, 3):
        town.image(number).unlink()
    (finding,) = town.examine()
    assert finding.where == town.where(0)
    assert finding.split == "train"
    assert finding.message == (
        f"the image is missing ({town.image(0)}) (and 20 more: line 5, line 8, line 11, line 14, line 17, ...)"
    )
    assert len(finding.paths) == 21


def test_images_that_nothing_lists_are_named_by_their_image(tmp_path: Path) -> None:
    path = saved(scene(0, (40, 9)), tmp_path / "a.png")
    (finding,) = examine(Dataset("folder", Records.of(path=[path]), NOTHING, NOTHING, MARKET))
    assert (finding.where, finding.check) == (path, "tiny crop")
    origins = {"train": Origin("list.txt", np.array([17]))}
    (listed,) = examine(Dataset("list", Records.of(path=[path]), NOTHING, NOTHING, MARKET, origins=origins))
    assert listed.where == "list.txt, line 17"


def test_pairs_lie_side_by_side_and_progress_counts_files(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.image(49).write_bytes(town.image(48).read_bytes())
    (finding,) = town.examine()
    assert finding.paired
    assert finding.paths == (str(town.image(49)), str(town.image(48)))
    assert finding.boxes == ((), ())
    steps = Steps()
    paths = [str(town.image(0)), str(town.image(9)), str(town.image(0))]
    train = Records.of(path=paths, image_key=list("abc"), box=[[0, 0, 20, 20], [0, 0, 20, 20], [20, 0, 40, 20]])
    examine(Dataset("set", train, NOTHING, NOTHING, MARKET), progress=steps)
    assert steps.seen == [(0, 2), (1, 2), (2, 2)] and steps.finished == 1


def test_an_empty_data_set_has_no_finding() -> None:
    assert examine(Dataset("nothing", NOTHING, NOTHING, NOTHING, MARKET)) == []

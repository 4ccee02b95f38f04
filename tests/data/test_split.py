"""`vreid data split`: which images become the test, that nothing leaks, and that the lists come back as written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vreid.cli import main
from vreid.data.dataset import Dataset
from vreid.data.findings import Origin
from vreid.data.open import open_dataset
from vreid.data.protocols import AI_CITY, CROSS_CAMERA, MARKET
from vreid.data.records import Records
from vreid.data.split import hold_out, write_split
from vreid.errors import InputError
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.formats.write import simulate

NONE = Records.of(path=[])


def dataset(*images: str, **columns: object) -> Dataset:
    """A data set with training images "identity camera", one word a column; "-" is unknown."""
    words = [["" if word == "-" else word for word in image.split()] for image in images]
    train = Records.of(
        path=[f"{number:03d}.jpg" for number in range(len(images))],
        identity=[word[0] for word in words],
        camera=[word[1] for word in words],
        scene=[word[2] if len(word) > 2 else "" for word in words],
        split=["train"] * len(images),
        **columns,
    )
    return Dataset("small", train, NONE, NONE, AI_CITY)


def numbers(side: Records) -> list[int]:
    return [int(path[:3]) for path in side.path]


# Vehicles 1, 2 at c1 and c2, vehicle 3 there and at c3, vehicles 4 to 8 at c3 and c4; two images each.
TWO_PLACES = dataset(
    *("1 c1", "1 c1", "1 c2", "1 c2", "2 c1", "2 c1", "2 c2", "2 c2"),
    *("3 c1", "3 c1", "3 c2", "3 c2", "3 c3", "3 c3"),
    *(f"{identity} {camera}" for identity in range(4, 9) for camera in ("c3", "c4") for _ in range(2)),
)


def test_cameras_are_held_out_with_all_vehicles_that_passed_them() -> None:
    made = hold_out(TWO_PLACES, "cameras", ["c1", "c2"])
    # Vehicle 3's images at c3 (12, 13) are in neither part.
    assert numbers(made.train) == list(range(14, 34))
    assert sorted(numbers(made.query) + numbers(made.gallery)) == list(range(12))
    # One query of each pair of images of one vehicle at one camera.
    assert [number // 2 for number in numbers(made.query)] == [0, 1, 2, 3, 4, 5]
    assert made.protocol == AI_CITY and made.name == "small split"
    for name in ("train", "query", "gallery"):
        assert set(getattr(made, name).split.values) == {name}
    assert made.notes[0] == "held out: cameras c1, c2."
    assert made.notes[1].startswith("images of test vehicles at other cameras, left out: 2;")
    assert made.source == {"held_out": "cameras c1, c2", "split_seed": 0, "split_of": TWO_PLACES.fingerprint()}


def test_a_vehicle_that_one_held_out_camera_saw_is_in_the_gallery_alone() -> None:
    made = hold_out(TWO_PLACES, "cameras", ["c3", "c4"])
    assert set(made.query.identity.values) == set("45678") and set(made.gallery.identity.values) == set("345678")
    assert "test vehicles seen by one held-out camera only, and so in the gallery alone: 1." in made.notes


def test_a_query_keeps_a_mate_at_another_camera() -> None:
    lone = dataset("1 a", "1 b", "2 a", "2 b", "2 b", "3 a", "3 a", "3 b", "3 b", "3 c", "9 x", "9 x")
    made = hold_out(lone, "cameras", ["a", "b", "c"])
    queries = set(numbers(made.query))
    # 1: one image at a, one at b: the first stays. 2: the one at a is the only mate of the query at b. 3: no need.
    assert queries & {0, 1, 2} == {1} and len(queries & {3, 4}) == 1
    assert len(queries & {5, 6}) == len(queries & {7, 8}) == len(queries & {9}) == 1


def test_scenes_are_the_records_or_groups_of_cameras_that_share_vehicles() -> None:
    given_scenes = dataset("1 a north", "1 b north", "1 b north", "2 c south", "2 d south", "3 c south", "3 d south")
    assert hold_out(given_scenes, "scene", ["north"]).source["held_out"] == "scene north (cameras a, b)"
    unnamed = replace(given_scenes, train=given_scenes.train.with_(scene=[""] * 7))
    made = hold_out(unnamed, "scene", ["c"])
    assert made.source["held_out"] == "scene c (cameras c, d)"
    assert "scenes are groups of cameras that share vehicles (2), as the data set names none." in made.notes
    half = unnamed.train.with_(scene=["north"] * 3 + [""] * 4)  # not known for all: not used
    assert hold_out(replace(unnamed, train=half), "scene", ["c"]).source["held_out"] == "scene c (cameras c, d)"


@settings(max_examples=60, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=25))
def test_inferred_scenes_against_a_search_from_each_camera(pairs: list[tuple[int, int]]) -> None:
    cameras_of, vehicles_of = defaultdict(set), defaultdict(set)
    for vehicle, camera in pairs:
        cameras_of[vehicle].add(camera)
        vehicles_of[camera].add(vehicle)
    scenes = set()
    for camera in vehicles_of:
        reached = {camera}
        while (more := {c for r in reached for v in vehicles_of[r] for c in cameras_of[v]}) != reached:
            reached = more
        scenes.add(frozenset(f"c{c}" for c in reached))
    images = dataset(*(f"v{vehicle} c{camera}" for vehicle, camera in pairs))
    for scene in scenes:
        try:
            held = hold_out(images, "scene", [min(scene)]).source["held_out"]
        except InputError as error:
            held = str(error)
        assert f"scene {min(scene)} (cameras {', '.join(sorted(scene))})" in held


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [((5, 2, 3), "s2"), ((1, 8, 1), "s1"), ((6, 4, 2), "s3"), ((3, 3), "s1"), ((2, 10), "s1"), ((9, 3, 3), "s2")],
)
def test_the_scene_nearest_to_a_fifth_of_the_vehicles_is_held_out(sizes: tuple[int, ...], chosen: str) -> None:
    images = [
        f"s{scene}v{vehicle} s{scene}{side} s{scene}"
        for scene, size in enumerate(sizes, start=1)
        for vehicle in range(size)
        for side in "ab"
    ]
    made = hold_out(dataset(*images[::-1]))  # not the first that occurs
    assert set(made.gallery.scene.values) == {chosen} and chosen not in made.train.scene.values


def test_identities_are_held_out_with_a_note_where_no_scene_can_be() -> None:
    one = dataset(*(f"{identity} c{camera}" for identity in range(10) for camera in (1, 2)))
    made = hold_out(one, seed=3)
    assert "there are no two scenes to divide, so identities are held out instead." in made.notes
    same = hold_out(one, "identities", seed=3)
    assert (made.train, made.query, made.gallery) == (same.train, same.query, same.gallery)
    assert made.query.identity.distinct == 2  # a fifth
    # A second scene of one camera cannot be searched, the first would leave one vehicle to train: it is chosen.
    apart = dataset(*(f"{identity} c{camera} s1" for identity in range(4) for camera in (1, 2)), "9 c3 s2")
    assert hold_out(apart).train.identity.values.tolist() == ["9"]


def test_identities_are_drawn_from_those_that_two_cameras_saw() -> None:
    images = [f"v{identity} c{camera}" for identity in range(30) for camera in (1, 2) for _ in range(2)]
    lonely = [f"w{identity} c1" for identity in range(30)]
    whole = dataset(*images, *lonely)
    draws = [hold_out(whole, "identities", count=7, seed=seed) for seed in (0, 0, 1)]
    sides = [(one.train, one.query, one.gallery) for one in draws]
    assert sides[0] == sides[1] and set(draws[0].query.identity.values) != set(draws[2].query.identity.values)
    for made in draws:
        assert made.query.identity.distinct == 7 and len(made.query) == 14 and len(made.gallery) == 14
        assert made.train.identity.distinct == 53 and len(made.train) == 150 - 28
    # The draw hangs on the names, not on the order of the images.
    shuffled = replace(whole, train=whole.train[np.random.default_rng(0).permutation(150)])
    again = hold_out(shuffled, "identities", count=7, seed=0)
    assert set(again.query.path) == set(draws[0].query.path)


CASES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 5), st.sampled_from(["", "s1", "s2"])), min_size=1, max_size=60
)


@settings(max_examples=150, derandomize=True)
@given(CASES, st.sampled_from(["scene", "cameras", "identities"]), st.integers(0, 5))
def test_no_vehicle_is_on_both_sides(images: list[tuple], by: str, seed: int) -> None:
    whole = dataset(
        *(f"{identity or '-'} {f'c{camera}' if camera else '-'} {scene}" for identity, camera, scene in images)
    )
    names = ["c1", "c2"] if by == "cameras" else []
    try:
        made = hold_out(whole, by, names, seed=seed)  # type: ignore[arg-type]
    except InputError as error:
        assert str(error) and "\n" not in str(error)
        return
    train, query, gallery = made.train, made.query, made.gallery
    assert len(train) and len(query)
    everything = numbers(train) + numbers(query) + numbers(gallery)
    assert len(everything) == len(set(everything))
    assert not set(train.identity.values) & {*query.identity.values, *gallery.identity.values}
    for side in (train, query, gallery):
        assert numbers(side) == sorted(numbers(side)) and side.identity.known.all() and side.camera.known.all()
        assert side.with_(split=["train"] * len(side)) == whole.train[numbers(side)]
    pairs = list(zip(query.identity.values, query.camera.values, strict=True))
    assert len(pairs) == len(set(pairs))
    there = set(zip(gallery.identity.values, gallery.camera.values, strict=True))
    assert all(any(i == identity and c != camera for i, c in there) for identity, camera in pairs)
    if by == "cameras":
        assert {*query.camera.values, *gallery.camera.values} <= {"c1", "c2"} and not {"c1", "c2"} & {
            *train.camera.values
        }


def test_crops_follow_their_images_into_training_and_stay_out_of_the_test() -> None:
    copies = [
        TWO_PLACES.train.with_(variant=[variant] * 34, image_key=[f"k{i}" for i in range(34)])
        for variant in ("crop", "original")
    ]
    made = hold_out(replace(TWO_PLACES, train=Records.concat(copies)), "cameras", ["c1", "c2"])
    assert len(made.train) == 40 and len(made.query) + len(made.gallery) == 12
    assert set(made.query.variant.values) == set(made.gallery.variant.values) == {"original"}


def test_a_table_without_a_split_is_divided_as_a_whole() -> None:
    everything = TWO_PLACES.train.with_(split=["gallery"] * 34)
    whole = Dataset("own", NONE, everything, everything, CROSS_CAMERA)
    assert numbers(hold_out(whole, "cameras", ["c1", "c2"]).train) == list(range(14, 34))


def test_images_know_where_they_were_listed() -> None:
    listed = replace(TWO_PLACES, origins={"train": Origin("labels.xml", np.arange(34) + 101, "Item")})
    made = hold_out(listed, "cameras", ["c1", "c2"])
    for side in ("train", "query", "gallery"):
        for image, number in enumerate(numbers(getattr(made, side))):
            assert made.where(side, image) == f"labels.xml, Item {101 + number}"
    files = np.array([f"{number}.txt" for number in range(34)], dtype=object)
    several = replace(TWO_PLACES, origins={"train": Origin(files, np.ones(34, dtype=np.int64))})
    assert hold_out(several, "cameras", ["c1", "c2"]).where("train", 0) == "14.txt, line 1"


@pytest.mark.parametrize(
    ("images", "arguments", "words"),
    [
        (["- c1", "- c2"], {}, "small: no image to divide has a known identity"),
        (["1 -", "2 -"], {}, "small: no image to divide has a known camera"),
        ([], {}, "small: has no training images to divide"),
        (["1 c1", "1 c2"], {}, "1 identities cannot be held out: of 1 in training 1 were seen by two cameras"),
        (["1 c1", "1 c2", "2 c1"], {"by": "identities", "count": 2}, "2 identities cannot be held out"),
        (["1 c1", "1 c2", "2 c1"], {"by": "identities", "count": 0}, "count 0 is less than 1"),
        (["1 c1", "1 c2"], {"by": "cameras", "names": ["c1", "c2"]}, "every vehicle was seen there, so none is left"),
        (["1 c1", "1 c2", "2 c2"], {"by": "cameras", "names": ["c1"]}, "no vehicle was seen by two of these cameras"),
        (["1 c001", "1 c2"], {"by": "cameras", "names": ["c01"]}, "no camera 'c01' .* did you mean c001"),
        (["1 c1", "1 c2"], {"by": "cameras", "names": ["north"]}, "no camera 'north' .* there are c1, c2\\."),
        ([f"1 c{n}" for n in range(9)], {"by": "cameras", "names": ["north"]}, "c0, c1, c2, c3, c4, c5 and more\\."),
        (["1 c1", "1 c2"], {"by": "scene", "names": ["c3"]}, "no scene 'c3' .* there are c1\\."),
        (["1 c1", "1 c2"], {"by": "cameras"}, "hold out cameras: name them"),
        (["1 c1", "1 c2"], {"by": "identities", "names": ["1"]}, "hold out identities: has no names"),
        (["1 c1", "1 c2"], {"by": "scene", "count": 3}, "takes no count"),
        (["1 c1", "1 c2"], {"by": "places"}, "'places': is unknown; use one of scene, cameras, identities"),
        (["1 c1", "1 c2"], {"seed": -1}, "seed -1 is negative"),
    ],
)
def test_what_cannot_be_divided_is_rejected(images: list[str], arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hold_out(dataset(*images), **arguments)


def test_images_without_labels_are_left_out_and_counted() -> None:
    extra = dataset("junk c1", "- c2", "1 -", *(f"{v} c{c}" for v in range(1, 11) for c in (1, 2)))
    made = hold_out(extra, "identities")
    assert "images left out, as their identity or camera is not known: 3." in made.notes
    assert len(made.train) + len(made.query) + len(made.gallery) == 20


# ------------------------------------------------------------------------------------------------ on disk


@pytest.fixture
def town(sketch: SimpleNamespace, tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return simulate(tmp_path / "data" / "town", preset=PRESETS["tiny"], seed=1, workers=1).path


def assert_comes_back(written: Dataset, read: Dataset) -> None:
    assert (read.name, read.protocol, dict(read.source), read.notes) == (
        written.name,
        written.protocol,
        dict(written.source),
        written.notes,
    )
    assert read.fingerprint() == written.fingerprint()
    for side in ("train", "query", "gallery"):
        mine, theirs = getattr(written, side), getattr(read, side)
        assert theirs.with_(path=mine.path) == mine
        assert [os.path.realpath(path) for path in theirs.path] == [os.path.realpath(path) for path in mine.path]


@pytest.mark.parametrize("labels", ["auto", None])
def test_a_written_split_comes_back(
    labels: str | None, town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = hold_out(open_dataset("data/town", labels=labels), seed=5)  # type: ignore[arg-type]
    scenes = {f"c{number:03d}" for number in (1, 2)}, {f"c{number:03d}" for number in (3, 4)}
    assert set(made.gallery.camera.values) in scenes  # told or inferred, a district of the simulator is a scene
    write_split(made, "splits/a")
    write_split(made, "splits/a")  # the same again
    monkeypatch.chdir("splits")  # paths do not hang on where one stands
    read = open_dataset("a")
    monkeypatch.chdir(tmp_path)
    assert_comes_back(
        made,
        replace(
            read,
            **{
                side: getattr(read, side).with_(
                    path=[os.path.join("splits", path) for path in getattr(read, side).path]
                )
                for side in ("train", "query", "gallery")
            },
        ),
    )
    assert read.where("query", 0).startswith("a/split.csv, line ")


def test_a_split_moves_with_its_data_and_through_links(town: Path, tmp_path: Path) -> None:
    made = hold_out(open_dataset(town, labels="auto"), "identities", count=3)
    (tmp_path / "data" / "link").symlink_to(tmp_path / "deep" / "er", target_is_directory=True)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write_split(made, tmp_path / "data" / "link" / "split")
    assert_comes_back(made, open_dataset(tmp_path / "data" / "link" / "split"))
    write_split(made, tmp_path / "data" / "split")
    before = made.fingerprint()
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = open_dataset(tmp_path / "moved" / "split")
    assert moved.fingerprint() == before and all(map(os.path.exists, moved.train.path))
    shutil.move(tmp_path / "moved" / "split", tmp_path / "far" / "away" / "split")
    with pytest.raises(InputError, match=r"split\.csv: its images do not exist"):
        open_dataset(tmp_path / "far" / "away" / "split")


def test_another_split_or_anything_else_is_not_overwritten(town: Path, tmp_path: Path) -> None:
    whole = open_dataset(town, labels="auto")
    write_split(hold_out(whole, seed=1), tmp_path / "out")
    before = (tmp_path / "out" / "split.csv").read_bytes()
    with pytest.raises(InputError, match="out: holds another split; choose another folder"):
        write_split(hold_out(whole, seed=2), tmp_path / "out")
    assert (tmp_path / "out" / "split.csv").read_bytes() == before
    with pytest.raises(InputError, match="town: holds something else; choose a new folder"):
        write_split(hold_out(whole), town)
    with pytest.raises(InputError, match=r"split\.csv: is a file; name a folder"):
        write_split(hold_out(whole), tmp_path / "out" / "split.csv")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "split.csv").write_text("stopped early")  # without split.json it was never finished
    write_split(hold_out(whole), tmp_path / "half")
    assert open_dataset(tmp_path / "half").protocol == AI_CITY
    with pytest.raises(InputError, match=r"protocol 'mine' has no name that split\.json could store"):
        write_split(replace(hold_out(whole), protocol=replace(MARKET, name="mine")), tmp_path / "new")


@pytest.mark.parametrize(
    ("story", "words"),
    [
        ("{", "split.json: is not valid JSON"),
        ("[]", "split.json: lacks one of name, protocol, source, notes; make the split again"),
        ('{"name": "a", "protocol": "market", "source": {}}', "lacks one of"),
        ('{"name": "a", "protocol": "mine", "source": {}, "notes": []}', "protocol 'mine' is unknown"),
    ],
)
def test_a_broken_story_is_reported(story: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("path,split\na.jpg,train\n")
    (tmp_path / "split.json").write_text(story)
    with pytest.raises(InputError, match=words):
        open_dataset(tmp_path)


def test_another_named_protocol_is_kept(tmp_path: Path) -> None:
    for number in range(34):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number:03d}.jpg")
    here = replace(TWO_PLACES, train=TWO_PLACES.train.with_(path=[str(tmp_path / p) for p in TWO_PLACES.train.path]))
    made = replace(hold_out(here, "cameras", ["c1", "c2"]), protocol=AI_CITY)
    write_split(made, tmp_path / "split")
    assert_comes_back(made, open_dataset(tmp_path / "split"))


# ------------------------------------------------------------------------------------------------ the command


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["vreid", "data", "split", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_command_reports_in_words_and_in_json(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "split")
    assert run([str(town), "--out", out, "--hold-out", "cameras=c003, c004"], monkeypatch) == 0
    reported = capsys.readouterr().out.splitlines()
    assert reported[0] == f"{out}: CityFlowV2-ReID split, protocol ai-city"
    made = open_dataset(out)
    for line, side in zip(reported[1:], ("train", "query", "gallery"), strict=False):
        records = getattr(made, side)
        assert line.split() == f"{side} {len(records)} images, 6 identities, 2 cameras".split()
    assert "note: held out: cameras c003, c004." in reported and reported[-1] == "Training and test share no vehicle."
    assert run([str(town), "--out", out, "--hold-out", "cameras=c003,c004", "--json"], monkeypatch) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["path"], facts["held_out"], facts["protocol"]) == (out, "cameras c003, c004", "ai-city")
    assert facts["counts"]["query"] == {"images": len(made.query), "identities": 6, "cameras": 2}


def test_the_command_rejects_in_one_line(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, reported in (
        (["--hold-out", "cameras=c03"], "there is no camera 'c03' among the training images; did you mean c003"),
        (["--hold-out", "identities", "--count", "12"], "12 identities cannot be held out"),
        (["--hold-out", "place"], "hold out 'place': is unknown"),
    ):
        assert run([str(town), "--out", str(tmp_path / "split"), *words], monkeypatch) == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and reported in errors[0]
        assert not (tmp_path / "split").exists()

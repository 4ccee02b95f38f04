"""The layouts of the simulator: folders of CityFlowV2-ReID, CityFlow-ReID (2020) and VeRi, each of its own world."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from vreid.cli import main
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.simulator.city.identities import draw_vehicles
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.formats.layouts import CITYFLOW, LAYOUTS, VERI, VERI_CLASSES, Layout
from vreid.simulator.formats.write import simulate
from vreid.simulator.vehicle.vehicles import COLORS, TYPES

TINY = PRESETS["tiny"]
WIDE = replace(TINY, name="wide", test_frames=(2, 4), train_frames=(1, 3), train_identities=20, test_identities=8)
COMMON = {"ground_truth.csv", "synthetic.csv", "cameras.csv", "roads.csv", "simulator.json"}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def by_split(out: Path) -> dict[str, list[dict[str, str]]]:
    truth = rows(out / "ground_truth.csv")
    return {split: [row for row in truth if row["split"] == split] for split in ("train", "query", "gallery")}


def lines(path: Path) -> list[str]:
    text = path.read_bytes().decode("ascii")
    assert text.endswith("\n") and "\r" not in text
    return text[:-1].split("\n")


def items(path: Path) -> list[dict[str, str]]:
    """The Items of a label file that declares gb2312, which Python's parser would refuse."""
    declaration, _, rest = path.read_bytes().decode("ascii").partition("\n")
    assert declaration == '<?xml version="1.0" encoding="gb2312"?>'
    root = ElementTree.fromstring(rest)
    assert (root.tag, root.attrib, root[0].tag) == ("TrainingImages", {"Version": "1.0"}, "Items")
    assert root[0].attrib == {"number": str(len(root[0]))}
    return [dict(item.attrib) for item in root[0]]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_same(read: Records, truth: list[dict[str, str]], *columns: str) -> None:
    """Every column of `read` is what the ground truth says of the image of that name."""
    reported = {Path(row["path"]).name: row for row in truth}
    assert sorted(reported) == sorted(Path(path).name for path in read.path)
    for column in columns:
        values = getattr(read, column).values
        assert values.tolist() == [reported[Path(path).name][column] for path in read.path], column


@pytest.fixture
def made(sketch: SimpleNamespace, tmp_path: Path):
    def make(layout: str, preset=WIDE, seed: int = 1) -> Path:
        return simulate(tmp_path / layout, preset=preset, layout=layout, seed=seed, workers=1).path

    return make


# ------------------------------------------------------------------------------------------------ worlds


def test_cityflow_worlds_keep_the_bytes_from_before_there_were_layouts(made) -> None:
    out = made("cityflow", TINY)
    digest = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if path.suffix != ".jpg" and path.name != "simulator.json":
            digest.update(path.relative_to(out).as_posix().encode() + b"\0" + path.read_bytes())
    assert digest.hexdigest()[:16] == "c3af0857f9106914"  # recorded at commit 57efed0, every file but the images


def test_the_same_seed_in_another_layout_is_another_world() -> None:
    worlds = [layout.plan(TINY, 1) for layout in LAYOUTS.values()]
    for kind in (
        lambda world: {traveller.vehicle.details for traveller in world.travellers},
        lambda world: {posed.vehicle.details for posed in world.posed},
        lambda world: {one.time for traveller in world.travellers for one in traveller.passes},
        lambda world: {(camera.x, camera.y) for camera in world.cameras},
    ):
        sets = [kind(world) for world in worlds]
        assert all(sets) and sum(len(one) for one in sets) == len(set().union(*sets))
    assert [layout.plan(TINY, 1) for layout in LAYOUTS.values()] == worlds
    assert VERI.plan(TINY, 2).travellers != VERI.plan(TINY, 1).travellers


def test_a_veri_world_is_one_network_under_one_sky() -> None:
    demo = PRESETS["demo"]
    world = VERI.plan(demo, 3)
    assert {(camera.scene, camera.part, camera.spec is None) for camera in world.cameras} == {("scene1", "seen", False)}
    assert [camera.name for camera in world.cameras] == list(demo.seen_cameras)
    passed = {
        split: [{p.camera for p in t.passes} for t in world.travellers if t.split == split]
        for split in ("train", "test")
    }
    assert len(passed["test"]) == 2 * demo.test_identities and len(passed["train"]) == demo.train_identities
    for trips in passed.values():  # both sides at all cameras, and many of them a vehicle
        assert set().union(*trips) == set(range(12))
        assert {len(trip) for trip in trips} == set(range(3, 9))


@pytest.mark.parametrize("seed", range(12))
def test_veri_worlds_can_be_planned_for_any_seed(seed: int) -> None:
    crowded = replace(TINY, scenes=TINY.scenes[:1] * 3, cameras_per_trip=(2, 2), train_identities=30)
    assert max(len(t.passes) for t in VERI.plan(crowded, seed).travellers) == 4


def test_veri_worlds_have_veris_colours_and_types_only() -> None:
    colors, types = VERI_CLASSES
    many = replace(TINY, look_alike_share=0.0, models=10_000)
    drawn = draw_vehicles(5, many, "train", 1500, types=types, colors=colors)
    assert {vehicle.color for vehicle in drawn} == set(COLORS) - {"purple", "pink"}
    assert {vehicle.vehicle_type for vehicle in drawn} == set(TYPES) - {"sportscar", "rv"}
    world = VERI.plan(replace(many, train_identities=200), 1)
    assert {t.vehicle.color for t in world.travellers} <= set(colors)
    assert {t.vehicle.vehicle_type for t in world.travellers} <= set(types)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_documentation_reports_what_a_layout_holds(layout: Layout) -> None:
    world = layout.plan(PRESETS["demo"], 1)
    train, test = ([t for t in world.travellers if t.split == split] for split in ("train", "test"))
    query, shown = sum(len(t.passes) for t in test), sum(t.images for t in test)
    counts = (
        len(train),
        len(test),
        len(world.cameras),
        sum(t.images for t in train),
        query,
        shown - (0 if layout.queries_stay else query),
    )
    line = f"| {layout.name} | {' | '.join(f'{count:,}' for count in counts)} |"
    text = (Path(__file__).parents[3] / "docs" / "guides" / "simulator.md").read_text()
    assert line in text.splitlines() and f"`{layout.real}`" in text


# ------------------------------------------------------------------------------------------------ CityFlow-ReID 2020


def test_cityflow2020_has_the_files_of_2020(made) -> None:
    out = made("cityflow2020")
    real, synthetic = out / "AIC20_track2" / "AIC20_ReID", out / "AIC20_track2" / "AIC20_ReID_Simulation"
    assert names_in(out) == COMMON | {"AIC20_track2"}
    assert names_in(real) == {
        "image_train",
        "image_query",
        "image_test",
        "train_label.xml",
        "name_train.txt",
        "name_query.txt",
        "name_test.txt",
        "train_track_id.txt",
        "test_track_id.txt",
    }
    assert names_in(synthetic) == {"image_train", "train_label.xml", "name_train.txt"}
    truth = by_split(out)
    for split, name in (("train", "train"), ("query", "query"), ("gallery", "test")):
        listed = lines(real / f"name_{name}.txt")
        assert listed == [f"{number:06d}.jpg" for number in range(1, len(truth[split]) + 1)]
        assert set(listed) == names_in(real / f"image_{name}")
    assert items(real / "train_label.xml") == [
        {"imageName": Path(row["path"]).name, "vehicleID": row["identity"], "cameraID": row["camera"]}
        for row in truth["train"]
    ]
    for name, split in (("train", "train"), ("test", "gallery")):
        tracks = [line.split(" ") for line in lines(real / f"{name}_track_id.txt")]
        numbers = [int(token) for track in tracks for token in track]
        assert all(token == str(int(token)) for track in tracks for token in track)  # bare: no zeros, no .jpg
        assert sorted(numbers) == list(range(1, len(truth[split]) + 1))
        for line, track in enumerate(tracks):
            shown = [truth[split][int(token) - 1] for token in track]
            assert {row["tracklet"] for row in shown} == {f"{name}_{line:05d}"}
            assert len({(row["identity"], row["camera"]) for row in shown}) == 1
    assert lines(synthetic / "name_train.txt") == [Path(row["path"]).name for row in rows(out / "synthetic.csv")]
    assert set(lines(synthetic / "name_train.txt")) == names_in(synthetic / "image_train")


def test_nothing_in_the_2020_folder_reports_a_camera_or_vehicle_of_the_test(made) -> None:
    out = made("cityflow2020")
    identities = {row["identity"] for row in by_split(out)["gallery"]}
    files = [path for path in (out / "AIC20_track2" / "AIC20_ReID").iterdir() if path.is_file()]
    train = {row["identity"] for row in by_split(out)["train"]}
    text = "".join(path.read_text() for path in files if "name" not in path.name and "track" not in path.name)
    assert set(re.findall(r'vehicleID="(\d+)"', text)) == train and not train & identities
    assert len(re.findall("cameraID", text)) == len(by_split(out)["train"])


def test_a_reader_gets_back_what_the_2020_writer_knew(made) -> None:
    out = made("cityflow2020")
    truth = by_split(out)
    plain, reported = open_dataset(out), open_dataset(out, labels="auto")
    assert (plain.name, plain.protocol.name) == ("CityFlow-ReID", "camera-less")
    assert plain.source["layout"] == "cityflow2020"
    assert_same(plain.train, truth["train"], "identity", "camera", "tracklet")
    assert_same(plain.gallery, truth["gallery"], "tracklet")
    for side in (plain.query, plain.gallery):
        assert not side.identity.known.any() and not side.camera.known.any()
    for split, side in (("train", reported.train), ("query", reported.query), ("gallery", reported.gallery)):
        assert_same(side, truth[split], "identity", "camera", "tracklet", "color", "vehicle_type", "scene")
    synthetic = open_dataset(out / "AIC20_track2" / "AIC20_ReID_Simulation")
    assert_same(synthetic.train, rows(out / "synthetic.csv"), "identity", "camera", "color", "vehicle_type")


# ------------------------------------------------------------------------------------------------ VeRi


def test_veri_has_the_files_of_veri(made) -> None:
    out = made("veri")
    real, truth = out / "VeRi", by_split(out)
    assert names_in(out) == COMMON | {"VeRi", "VeRi_ReID_Simulation"}
    assert names_in(real) == {
        "image_train",
        "image_query",
        "image_test",
        "name_train.txt",
        "name_query.txt",
        "name_test.txt",
        "train_label.xml",
        "test_label.xml",
        "gt_index.txt",
        "jk_index.txt",
        "test_track.txt",
        "camera_ID.txt",
        "camera_Dist.txt",
        "list_color.txt",
        "list_type.txt",
        "keypoint_train.txt",
        "keypoint_test.txt",
    }
    for split, name in (("train", "train"), ("query", "query"), ("gallery", "test")):
        listed = lines(real / f"name_{name}.txt")
        assert listed == sorted(names_in(real / f"image_{name}")) == [Path(row["path"]).name for row in truth[split]]
        for file, row in zip(listed, truth[split], strict=True):
            assert file == f"{row['identity']}_{row['camera']}_{int(row['frame']):08d}_0.jpg"
            assert re.fullmatch(r"\d{4}_c\d{3}_\d{8}_0\.jpg", file)
    for name, split in (("train", "train"), ("test", "gallery")):
        labels = items(real / f"{name}_label.xml")
        assert [list(label) for label in labels] == [["imageName", "vehicleID", "cameraID", "colorID", "typeID"]] * len(
            truth[split]
        )
        for label, row in zip(labels, truth[split], strict=True):
            assert label["imageName"] == Path(row["path"]).name
            assert (label["vehicleID"], label["cameraID"]) == (row["identity"], row["camera"])
            # 1-based, in VeRi's order
            assert ["yellow", "orange", "green", "gray", "red", "blue", "white", "golden", "brown", "black"][
                int(label["colorID"]) - 1
            ] == row["color"]
            assert ["sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate"][
                int(label["typeID"]) - 1
            ] == row["vehicle_type"]
    assert lines(real / "list_color.txt")[::9] == ["1 yellow", "10 black"]
    assert lines(real / "list_type.txt")[::8] == ["1 sedan", "9 estate"]
    cameras = rows(out / "cameras.csv")
    assert lines(real / "camera_ID.txt") == [row["camera"] for row in cameras] == ["c001", "c002", "c003", "c004"]
    distances = np.loadtxt(real / "camera_Dist.txt")
    places = np.array([[float(row["x"]), float(row["y"])] for row in cameras])
    np.testing.assert_allclose(distances, np.linalg.norm(places[:, None] - places[None], axis=2), atol=0.06)


def test_veris_queries_are_one_gallery_image_of_each_vehicle_and_camera(made) -> None:
    out = made("veri")
    truth = by_split(out)
    gallery = {Path(row["path"]).name: row for row in truth["gallery"]}
    for row in truth["query"]:
        twin = gallery[Path(row["path"]).name]
        assert (out / row["path"]).read_bytes() == (out / twin["path"]).read_bytes()
        assert {**row, "split": "", "path": "", "image_key": ""} == {**twin, "split": "", "path": "", "image_key": ""}
    pairs = [(row["identity"], row["camera"]) for row in truth["query"]]
    assert len(pairs) == len(set(pairs)) and set(pairs) == {(r["identity"], r["camera"]) for r in truth["gallery"]}
    summary = json.loads((out / "simulator.json").read_text())
    assert summary["counts"]["query"] == len(pairs) and summary["counts"]["gallery"] == len(gallery)
    table = open_dataset(out / "ground_truth.csv")  # each image has a key of its own in each split
    assert [len(table.train), len(table.query), len(table.gallery)] == [len(truth[split]) for split in truth]


def test_veris_index_files_count_from_1_in_name_test(made) -> None:
    out = made("veri")
    query, gallery = lines(out / "VeRi/name_query.txt"), lines(out / "VeRi/name_test.txt")
    reported = {name: lines(out / f"VeRi/{name}_index.txt") for name in ("gt", "jk")}
    assert len(reported["gt"]) == len(reported["jk"]) == len(query)
    for number, name in enumerate(query):
        good, junk = (reported[kind][number] for kind in ("gt", "jk"))
        assert good.endswith(" ") and junk.endswith(" ")
        expected: dict[bool, list[int]] = {True: [], False: []}
        for place, other in enumerate(gallery, start=1):
            if other[:4] == name[:4]:
                expected[other[5:9] == name[5:9]].append(place)
        assert [int(token) for token in good.split()] == expected[False] != []
        assert [int(token) for token in junk.split()] == expected[True]
        assert name in {gallery[int(token) - 1] for token in junk.split()}


def test_veris_tracks_cover_the_gallery_once(made) -> None:
    out = made("veri")
    tracks = [line.split(" ") for line in lines(out / "VeRi/test_track.txt")]
    assert all(track[-1] == "" for track in tracks)  # a blank at the end
    assert sorted(name for track in tracks for name in track[1:-1]) == lines(out / "VeRi/name_test.txt")
    for number, (head, *names, _) in enumerate(tracks, start=1):
        assert {name[:9] for name in names} == {head[:9]} and head[9:] == f"_t{number:04d}"


@pytest.mark.parametrize(
    ("orientation", "view"),
    [  # 0 = facing the camera, then counter-clockwise from above: the right side comes first
        (0.0, 0),
        (22.0, 0),
        (338.0, 0),
        (45.0, 6),
        (90.0, 5),
        (135.0, 7),
        (180.0, 1),
        (225.0, 4),
        (270.0, 2),
        (315.0, 3),
    ],
)
def test_veris_views(orientation: float, view: int) -> None:
    row = {
        "file": "a",
        "path": "VeRi/image_test/a.jpg",
        "identity": "1",
        "camera": "c001",
        "color": "red",
        "vehicle_type": "bus",
        "orientation": str(orientation),
        "tracklet": "t",
    }
    files = VERI.files({"train": [], "query": [row], "gallery": [row]}, {"test": [[row]]}, VERI.plan(TINY, 0))
    assert files["VeRi/keypoint_test.txt"] == f"VeRi/image_test/a.jpg {' '.join(['-1'] * 40)} {view}\n"
    assert files["VeRi/keypoint_train.txt"] == ""


def test_a_reader_gets_back_what_the_veri_writer_knew(made) -> None:
    out = made("veri")
    truth = by_split(out)
    dataset = open_dataset(out)
    assert (dataset.name, dataset.protocol.name) == ("VeRi-776", "veri")
    for split in truth:
        assert_same(getattr(dataset, split), truth[split], "identity", "camera")
    for split in ("train", "gallery"):
        assert_same(getattr(dataset, split), truth[split], "color", "vehicle_type")
    assert_same(dataset.gallery, truth["gallery"], "tracklet")
    assert dataset.gallery.image_key.tolist() == [row["image_key"] for row in truth["gallery"]]
    lists = dict(zip(dataset.query.image_key, lines(out / "VeRi/jk_index.txt"), strict=True))
    for key, junk in dataset.protocol.junk.items():
        assert sorted(junk) == sorted(dataset.gallery.image_key[int(token) - 1] for token in lists[key].split())
    assert len(dataset.protocol.junk) == len(dataset.query)
    synthetic = open_dataset(out / "VeRi_ReID_Simulation")
    assert_same(synthetic.train, rows(out / "synthetic.csv"), "identity", "camera", "color", "vehicle_type")


# ------------------------------------------------------------------------------------------------ asking for them


@pytest.mark.parametrize("layout", ["cityflow2020", "veri"])
def test_the_layout_is_part_of_what_a_folder_holds(layout: str, made, sketch: SimpleNamespace) -> None:
    out = made(layout, TINY)
    shots = sketch.shots
    assert simulate(out, preset=TINY, layout=layout, seed=1, workers=1).reused and sketch.shots == shots
    with pytest.raises(InputError, match="holds another simulation \\(its layout differs\\)"):
        simulate(out, preset=TINY, seed=1)


def test_a_folder_from_before_there_were_layouts_is_a_cityflow_folder(made) -> None:
    out = made("cityflow", TINY)
    summary = json.loads((out / "simulator.json").read_text())
    assert summary.pop("layout") == CITYFLOW.name
    (out / "simulator.json").write_text(json.dumps(summary))
    assert simulate(out, preset=TINY, seed=1).reused
    with pytest.raises(InputError, match="its layout differs"):
        simulate(out, preset=TINY, layout="veri", seed=1)


def test_what_a_layout_cannot_hold_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no layout 'verri'; did you mean 'veri'"):
        simulate(tmp_path / "out", preset=TINY, layout="verri", seed=1)
    with pytest.raises(InputError, match="Known: cityflow, cityflow2020, veri"):
        simulate(tmp_path / "out", preset=TINY, layout="duke", seed=1)
    for change in ({"motorcycle_share": 0.1}, {"label_new_scene": True}):
        with pytest.raises(InputError, match="preset 'tiny': VeRi has neither motorcycles nor a new scene"):
            simulate(tmp_path / "out", preset=replace(TINY, **change), layout="veri", seed=1)
    with pytest.raises(InputError, match="label_new_scene needs a new_scene"):
        replace(TINY, new_scene=None, label_new_scene=True)
    assert not list(tmp_path.iterdir())


def test_the_command_line_accepts_layouts(
    sketch: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "vreid",
        "simulate",
        str(tmp_path / "out"),
        "--preset",
        "tiny",
        "--layout",
        "veri",
        "--workers",
        "1",
        "--json",
    ]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert json.loads(capsys.readouterr().out)["layout"] == "veri"
    assert (tmp_path / "out" / "VeRi" / "name_train.txt").is_file()

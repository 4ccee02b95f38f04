"""The folders that the simulator writes, and how: whole or not at all, the same bytes from any number of processes."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from support.listeners import Steps
from vreid.data.open import open_dataset
from vreid.data.records import CSV_COLUMNS
from vreid.errors import InputError
from vreid.simulator.city.plan import plan_world
from vreid.simulator.city.presets import PRESETS, SIMULATOR_VERSION
from vreid.simulator.formats.write import Simulation, simulate

TINY = PRESETS["tiny"]
MICRO = replace(TINY, name="micro", train_identities=3, test_identities=1, synthetic_identities=2)
REAL, SYNTHETIC = "AIC21_Track2_ReID", "AIC21_Track2_ReID_Simulation"


def tree(folder: Path) -> dict[str, str]:
    """The hash of every file by its path inside `folder`."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def items(path: Path) -> list[dict[str, str]]:
    root = ElementTree.parse(path).getroot()
    assert (root.tag, root.attrib) == ("TrainingImages", {"Version": "1.0"})
    (group,) = root
    assert group.tag == "Items" and {item.tag for item in group} <= {"Item"}
    return [dict(item.attrib) for item in group]


# ------------------------------------------------------------------------------------------------ what is in it


def test_labels_agree_with_the_ground_truth(tiny_world: Path) -> None:
    truth = rows(tiny_world / "ground_truth.csv")
    assert tuple(truth[0])[: len(CSV_COLUMNS)] == CSV_COLUMNS
    by_split = defaultdict(list)
    for row in truth:
        by_split[row["split"]].append(row)
    for split, name, folder in (
        ("train", "train", "image_train"),
        ("query", "query", "image_query"),
        ("gallery", "test", "image_test"),
    ):
        labels = items(tiny_world / REAL / f"{name}_label.xml")
        files = sorted(path.name for path in (tiny_world / REAL / folder).iterdir())
        assert files == [f"{number:06d}.jpg" for number in range(1, len(labels) + 1)]
        assert [label["imageName"] for label in labels] == files
        for label, row in zip(labels, by_split[split], strict=True):
            assert row["path"] == f"{REAL}/{folder}/{label['imageName']}"
            assert row["image_key"] == f"{name}/{label['imageName'][:-4]}"
            wanted = {"imageName": label["imageName"], "cameraID": row["camera"]}
            assert label == (wanted | {"vehicleID": row["identity"]} if split == "train" else wanted)
        raw = (tiny_world / REAL / f"{name}_label.xml").read_bytes()
        assert raw.isascii() and f'<Items number="{len(labels)}">'.encode() in raw


def test_tracks_cover_train_and_gallery_once_each_in_one_camera(tiny_world: Path) -> None:
    truth = {row["path"]: row for row in rows(tiny_world / "ground_truth.csv")}
    for name, folder in (("train", "image_train"), ("test", "image_test")):
        lines = (tiny_world / REAL / f"{name}_track.txt").read_text().splitlines()
        tracks = [[truth[f"{REAL}/{folder}/{file}"] for file in line.split(" ")] for line in lines]
        assert sorted(row["path"] for track in tracks for row in track) == sorted(p for p in truth if folder in p)
        for number, track in enumerate(tracks):
            assert len({(row["camera"], row["identity"]) for row in track}) == 1
            assert {row["tracklet"] for row in track} == {f"{name}_{number:05d}"}
            assert (np.diff([int(row["frame"]) for row in track]) > 0).all()
    queries = [row for row in truth.values() if row["split"] == "query"]
    gallery_tracklets = {row["tracklet"]: row["camera"] for row in truth.values() if row["split"] == "gallery"}
    assert all(gallery_tracklets[row["tracklet"]] == row["camera"] for row in queries)


def test_each_identity_and_camera_has_one_query_with_positives(tiny_world: Path) -> None:
    truth = rows(tiny_world / "ground_truth.csv")
    seen = defaultdict(set)
    for row in truth:
        if row["split"] == "gallery":
            seen[row["identity"]].add(row["camera"])
    queries = Counter((row["identity"], row["camera"]) for row in truth if row["split"] == "query")
    assert set(queries) == {(identity, camera) for identity, cameras in seen.items() for camera in cameras}
    assert set(queries.values()) == {1} and all(len(cameras) >= 2 for cameras in seen.values())
    train = {row["identity"] for row in truth if row["split"] == "train"}
    assert not train & set(seen)


def test_the_new_scene_is_in_the_test_only_and_at_least_a_third_of_the_gallery(tiny_world: Path) -> None:
    truth = rows(tiny_world / "ground_truth.csv")
    parts = Counter((row["split"], row["part"]) for row in truth)
    assert parts["train", "new"] == 0 and parts["gallery", "new"] >= parts["gallery", "seen"] / 2
    assert parts["query", "new"] == parts["query", "seen"] and parts["gallery", "new"] == parts["gallery", "seen"]
    cameras = {row["camera"]: row for row in rows(tiny_world / "cameras.csv")}
    assert [name for name, row in cameras.items() if row["part"] == "new"] == ["c041", "c042"]
    for row in truth:
        assert (row["part"], row["scene"]) == (cameras[row["camera"]]["part"], cameras[row["camera"]]["scene"])


def test_times_follow_the_roads(tiny_world: Path) -> None:
    cameras = {row["camera"]: row for row in rows(tiny_world / "cameras.csv")}
    roads = rows(tiny_world / "roads.csv")
    assert all(float(road["length"]) > 0 and float(road["mean_time"]) > 0 for road in roads)
    places = {(road["start"], road["start_x"], road["start_y"]) for road in roads}
    places |= {(road["end"], road["end_x"], road["end_y"]) for road in roads}
    assert {(name, row["x"], row["y"]) for name, row in cameras.items()} <= places
    shortest = min(float(road["mean_time"]) for road in roads)
    sightings = defaultdict(list)
    for row in rows(tiny_world / "ground_truth.csv"):
        start = float(cameras[row["camera"]]["video_start"])
        assert float(row["time"]) == pytest.approx(start + int(row["frame"]) / 10)
        sightings[row["identity"]].append((float(row["time"]), row["camera"]))
    for times in sightings.values():
        ordered = sorted(times)
        moves = [b[0] - a[0] for a, b in pairwise(ordered) if a[1] != b[1]]
        assert len(moves) == len({camera for _, camera in times}) - 1  # one pass at each camera
        assert all(move > shortest / 3 for move in moves)


def test_boxes_and_images_fit(tiny_world: Path) -> None:
    cameras = {row["camera"]: row for row in rows(tiny_world / "cameras.csv")}
    for row in rows(tiny_world / "ground_truth.csv"):
        sides = ("x1", "y1", "x2", "y2")
        box, true_box, crop = ([float(row[f"{kind}_{side}"]) for side in sides] for kind in ("frame", "true", "crop"))
        with Image.open(tiny_world / row["path"]) as image:
            assert image.format == "JPEG" and max(image.size) <= 2 * TINY.longest_side
            width, height = image.size
        assert 0 <= crop[0] < crop[2] <= width and 0 <= crop[1] < crop[3] <= height
        frame = cameras[row["camera"]]
        assert 0 <= box[0] < box[2] <= float(frame["frame_width"]) + 0.1
        assert 0 <= box[1] < box[3] <= float(frame["frame_height"]) + 0.1
        # The tight box, carried over into the crop, is the crop box.
        factor = width / (box[2] - box[0])
        moved = [min(max((t - box[i % 2]) * factor, 0), (width, height)[i % 2]) for i, t in enumerate(true_box)]
        np.testing.assert_allclose(moved, crop, atol=1.0)
        assert 0.5 <= float(row["visibility"]) <= 1 and 0 <= float(row["orientation"]) < 360
        assert row["occluder"] in ("none", "vehicle", "pole", "frame")


def test_the_synthetic_set_has_all_attributes(tiny_world: Path) -> None:
    labels = items(tiny_world / SYNTHETIC / "train_label.xml")
    table = rows(tiny_world / "synthetic.csv")
    assert b'<Items number="-">' in (tiny_world / SYNTHETIC / "train_label.xml").read_bytes()
    names = {path.name for path in (tiny_world / SYNTHETIC / "sys_image_train").iterdir()}
    assert names == {label["imageName"] for label in labels} and len(names) == len(labels) == 24
    for label, row in zip(labels, table, strict=True):
        assert list(label) == [
            "typeID",
            "imageName",
            "cameraID",
            "vehicleID",
            "colorID",
            "orientation",
            "lightInt",
            "lightDir",
            "camHei",
            "camDis",
        ]
        assert label["imageName"].startswith(f"{int(label['vehicleID']):05d}_{label['cameraID']}_")
        assert row["path"].endswith(label["imageName"]) and row["image_key"] == f"synthetic/{label['imageName'][:-4]}"
        assert 0 <= int(label["typeID"]) <= 10 and 0 <= int(label["colorID"]) <= 11
        assert 0 <= float(label["orientation"]) < 360 and row["orientation"] == label["orientation"]
        # The two sets both count from 1; the table, which may be read beside the other, tells them apart.
        assert (row["identity"], row["camera"]) == (f"synthetic-{label['vehicleID']}", f"synthetic-{label['cameraID']}")


def test_motorcycles_have_no_type_number_in_the_synthetic_set(sketch: SimpleNamespace, tmp_path: Path) -> None:
    world = replace(MICRO, synthetic_identities=8, motorcycle_share=0.5)
    made = simulate(tmp_path / "made", preset=world, seed=1, workers=1)
    types = {Path(row["path"]).name: row["vehicle_type"] for row in rows(made.path / "synthetic.csv")}
    numbered = {item["imageName"]: "typeID" in item for item in items(made.path / SYNTHETIC / "train_label.xml")}
    assert numbered == {name: kind != "motorcycle" for name, kind in types.items()}
    assert len(set(numbered.values())) == 2
    assert len(open_dataset(made.path / SYNTHETIC).train) == len(types)


def test_the_summary_counts_what_is_there(tiny_world: Path) -> None:
    summary = json.loads((tiny_world / "simulator.json").read_text())
    truth, synthetic = rows(tiny_world / "ground_truth.csv"), rows(tiny_world / "synthetic.csv")
    splits = Counter(row["split"] for row in truth)
    assert summary["counts"] == {
        **splits,
        "train_identities": TINY.train_identities,
        "test_identities": 2 * TINY.test_identities,
        "cameras": 6,
        "tracklets": len({row["tracklet"] for row in truth}),
        "synthetic": len(synthetic),
        "synthetic_identities": TINY.synthetic_identities,
    }
    assert sum(splits.values()) + len(synthetic) == plan_world(TINY, 1).images
    assert (summary["simulator_version"], summary["seed"]) == (SIMULATOR_VERSION, 1)
    assert summary["preset"] == json.loads(json.dumps(asdict(TINY)))
    files = tree(tiny_world)
    del files["simulator.json"]
    listing = "".join(f"{name} {digest}\n" for name, digest in sorted(files.items()))
    assert summary["content_hash"] == hashlib.sha256(listing.encode()).hexdigest()[:16]
    everything = b"".join(path.read_bytes() for path in tiny_world.rglob("*.[cjtx][sxm]*") if path.suffix != ".jpg")
    assert str(tiny_world).encode() not in everything


def test_no_number_reports_an_identity(sketch: SimpleNamespace, tmp_path: Path) -> None:
    out = simulate(tmp_path / "out", preset=replace(TINY, test_identities=40), seed=2, workers=1).path
    for split in ("query", "gallery"):
        identities = [int(row["identity"]) for row in rows(out / "ground_truth.csv") if row["split"] == split]
        same = np.mean(np.diff(identities) == 0)
        assert same < 0.1 and abs(np.corrcoef(identities, np.arange(len(identities)))[0, 1]) < 0.3


# ------------------------------------------------------------------------------------------------ the same bytes


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("worlds") / "micro", preset=MICRO, seed=1, workers=1)


def test_the_same_bytes_from_one_process_and_from_two(micro: Simulation, tmp_path: Path) -> None:
    two = simulate(tmp_path / "two", preset=MICRO, seed=1, workers=2)
    assert tree(micro.path) == tree(two.path)
    assert micro.content_hash == two.content_hash


@pytest.mark.parametrize("switch", ["background", "plate"])
def test_without_background_or_plate_only_the_images_change(switch: str, micro: Simulation, tmp_path: Path) -> None:
    bare = simulate(tmp_path / "bare", preset=replace(MICRO, **{switch: False}), seed=1, workers=1)
    before, after = tree(micro.path), tree(bare.path)
    changed = {name for name in before if before[name] != after[name]}
    assert set(before) == set(after)
    assert {name for name in changed if not name.endswith(".jpg")} == {"simulator.json"}
    assert len(changed) > len(before) / 3


def test_another_seed_gives_other_images(sketch: SimpleNamespace, tmp_path: Path) -> None:
    one, same, other = (
        simulate(tmp_path / f"{i}", preset=MICRO, seed=seed, workers=1) for i, seed in enumerate((1, 1, 2))
    )
    assert tree(one.path) == tree(same.path)
    images = [{digest for name, digest in tree(made.path).items() if name.endswith(".jpg")} for made in (one, other)]
    assert not images[0] & images[1]


def test_labels_in_the_new_scene_leave_every_other_byte(sketch: SimpleNamespace, tmp_path: Path) -> None:
    plain = simulate(tmp_path / "plain", preset=TINY, seed=1, workers=1)
    labelled = simulate(tmp_path / "labelled", preset=replace(TINY, label_new_scene=True), seed=1, workers=1)
    before, after = tree(plain.path), tree(labelled.path)
    assert {name for name in before if before[name] != after[name]} == {
        "simulator.json",
        "ground_truth.csv",
        f"{REAL}/train_label.xml",
        f"{REAL}/train_track.txt",
    }
    assert all(name.startswith(f"{REAL}/image_train/") for name in set(after) - set(before))
    assert labelled.counts["train"] == plain.counts["train"] * 3 / 2
    truth = [rows(made.path / "ground_truth.csv") for made in (plain, labelled)]
    assert all(row in truth[1] for row in truth[0])
    assert {row["part"] for row in truth[1] if row not in truth[0]} == {"new"}


# ------------------------------------------------------------------------------------------------ whole or not at all


def test_the_same_simulation_is_reused_and_anything_else_rejected(sketch: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # empty: taken
    made = simulate(out, preset=MICRO, seed=1, workers=1)
    before, shots = tree(out), sketch.shots
    again = simulate(out, preset=MICRO, seed=1)
    assert again == replace(made, reused=True) and sketch.shots == shots
    for change in ({"seed": 2}, {"preset": replace(MICRO, plate=False)}):
        with pytest.raises(InputError, match=r"out: holds another simulation \(its (seed|preset) differs\)"):
            simulate(out, **({"preset": MICRO, "seed": 1} | change))
    assert tree(out) == before
    (out / REAL / "image_query" / "000001.jpg").unlink()
    with pytest.raises(InputError, match="image_query: has 3 images instead of 4"):
        simulate(out, preset=MICRO, seed=1)


def test_a_folder_with_something_else_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="exists and holds no simulation; choose another folder or remove this one"):
        simulate(tmp_path, preset="tiny", seed=1)
    with pytest.raises(InputError, match=r"thesis.txt: exists and holds no simulation"):
        simulate(tmp_path / "thesis.txt", preset="tiny", seed=1)
    with pytest.raises(InputError, match="cannot be written"):
        simulate(tmp_path / "thesis.txt" / "out", preset="tiny", seed=1)
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "mine").touch()
    with pytest.raises(InputError, match=r"out.partial: exists and was not created by a simulation"):
        simulate(tmp_path / "out", preset="tiny", seed=1)
    assert (partial / "mine").exists() and (tmp_path / "thesis.txt").read_text() == "precious"


def test_wrong_arguments_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed -1 is negative"):
        simulate(tmp_path / "out", preset="tiny", seed=-1)
    with pytest.raises(InputError, match="workers 0 is less than 1"):
        simulate(tmp_path / "out", preset="tiny", seed=1, workers=0)
    with pytest.raises(InputError, match="no preset 'huge'"):
        simulate(tmp_path / "out", preset="huge", seed=1)
    assert not list(tmp_path.iterdir())


def test_progress_counts_every_planned_image(sketch: SimpleNamespace, tmp_path: Path) -> None:
    steps = Steps()
    simulate(tmp_path / "out", preset=TINY, seed=1, workers=1, progress=steps)
    done, totals = zip(*steps.seen, strict=True)
    assert set(totals) == {plan_world(TINY, 1).images} and done[0] == 0 and done[-1] == totals[0]
    assert (np.diff(done) > 0).all()


def test_an_interrupted_run_leaves_nothing(sketch: SimpleNamespace, tmp_path: Path) -> None:
    class Interrupt(Steps):
        def advance(self, steps: int, text: str = "") -> None:
            super().advance(steps, text)
            done, total = self.seen[-1]
            if done > total / 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", preset=TINY, seed=1, workers=1, progress=Interrupt())
    assert not list(tmp_path.iterdir())


STOPPED = """
import os, signal, sys
from vreid.progress import Progress
from vreid.simulator import simulate
class Kill(Progress):
    def advance(self, steps, text=""):
        os.kill(os.getpid(), number)
if __name__ == "__main__":
    number = getattr(signal, sys.argv[2])
    if number == signal.SIGINT:  # a shell that runs the tests in the background ignores it
        signal.signal(number, signal.default_int_handler)
    simulate(sys.argv[1], preset="tiny", seed=1, workers=2, progress=Kill())
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_stopped_run_leaves_no_folder_that_looks_complete(name: str, sketch: SimpleNamespace, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(STOPPED)
    source = Path(__file__).parents[3] / "src"
    # The pipes are the workers' too: run() returns only when they have ended with their parent.
    stopped = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out"), name],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert stopped.returncode == -getattr(signal, name), stopped.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial").exists() == (name == "SIGKILL")
    assert not (tmp_path / "out.partial" / "simulator.json").exists()
    simulate(tmp_path / "out", preset=TINY, seed=1, workers=1)
    assert not (tmp_path / "out.partial").exists() and (tmp_path / "out" / "simulator.json").exists()

"""Traffic as images of tracklets: images, times and truth agree; the same bytes from any number of processes."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.command_line import Run, reported, state
from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.simulator.city.observation import observe
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.city.traffic import TRAFFIC_PRESETS, plan_traffic
from vreid.simulator.formats.trip_files import TRIPS, truth_tables
from vreid.simulator.formats.write import simulate

TINY = TRAFFIC_PRESETS["tiny"]
MICRO = replace(TINY, name="micro", cameras=3, vehicles=4, images=(1, 2))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_every_tracklet_has_images_at_its_time(trips_world: Path) -> None:
    images, truth = rows(trips_world / "images.csv"), {row["tracklet"]: row for row in rows(trips_world / "truth.csv")}
    assert {row["tracklet"] for row in images} == set(truth)
    offsets = {row["camera"]: float(row["offset"]) for row in rows(trips_world / "clocks.csv")}
    count: Counter[str] = Counter()
    for row in images:
        camera, _, track = row["tracklet"].partition("/")
        count[row["tracklet"]] += 1
        assert row["path"] == f"images/{camera}/{int(track):05d}_{count[row['tracklet']]}.jpg"
        assert row["camera"] == camera == truth[row["tracklet"]]["camera"]
        time = float(row["time"]) + offsets[camera]
        assert float(truth[row["tracklet"]]["start"]) - 3 < time < float(truth[row["tracklet"]]["end"]) + 3
        with Image.open(trips_world / row["path"]) as image:
            assert 16 <= max(image.size) <= 2 * TINY.longest_side
    assert sorted(path.name for path in trips_world.rglob("*.jpg")) == sorted(Path(row["path"]).name for row in images)
    shares = Counter(count.values())
    assert shares[2] > 10 and shares[3] > 10 and sum(shares.values()) == len(truth) > 30
    assert not {"identity", "vehicle", "color"} & set(images[0])


def test_a_vehicle_keeps_its_colour_and_a_camera_its_picture(trips_world: Path) -> None:
    """Mean colours of the images of a vehicle are more alike than those of different vehicles."""
    truth = {row["tracklet"]: row for row in rows(trips_world / "truth.csv") if not row["merged_with"]}
    means = defaultdict(list)
    for row in rows(trips_world / "images.csv"):
        if row["tracklet"] in truth:
            pixels = np.asarray(Image.open(trips_world / row["path"]), dtype=np.float64)
            height, width = pixels.shape[:2]
            middle = pixels[height // 4 : -height // 4, width // 4 : -width // 4].mean(axis=(0, 1))
            means[truth[row["tracklet"]]["vehicle"]].append(middle)
    within = np.mean([np.var(values, axis=0).sum() for values in means.values() if len(values) > 3])
    overall = np.var(np.concatenate([np.array(values) for values in means.values()]), axis=0).sum()
    assert within < 0.7 * overall


def test_the_truth_names_every_pass_and_counts_every_trip(trips_world: Path) -> None:
    truth, passes = rows(trips_world / "truth.csv"), rows(trips_world / "truth_trips.csv")
    recorded = {name for row in passes for name in row["tracklets"].split()}
    assert recorded == {row["tracklet"] for row in truth}
    of_pass = {(row["trip"], name): row for row in passes for name in row["tracklets"].split()}
    for row in truth:
        there = of_pass[row["trip"], row["tracklet"]]
        assert (there["vehicle"], there["camera"]) == (row["vehicle"], row["camera"])
    trips = defaultdict(list)
    for row in passes:
        assert row["trip"].startswith(row["vehicle"]) and int(row["order"]) == len(trips[row["trip"]]) + 1
        trips[row["trip"]].append(row)
    for some in trips.values():
        assert all(float(a["start"]) < float(b["start"]) for a, b in pairwise(some))
    cells = Counter((some[0]["camera"], some[-1]["camera"]) for some in trips.values() if len(some) > 1)
    od = {(row["from"], row["to"]): int(row["count"]) for row in rows(trips_world / "truth_od.csv")}
    assert od == cells
    times = rows(trips_world / "truth_travel_times.csv")
    assert sum(int(row["count"]) for row in times) == sum(len(some) - 1 for some in trips.values())
    assert all(float(row["p15"]) <= float(row["median"]) <= float(row["p85"]) for row in times)


def test_a_dead_camera_is_in_no_count_and_merged_tracklets_name_both_vehicles() -> None:
    preset = replace(TRAFFIC_PRESETS["medium"], vehicles=6_000, merged=0.5, dead_cameras=1)
    traffic = plan_traffic(preset, 1)
    tracklets = observe(traffic)
    tables = {name: parsed(text) for name, text in truth_tables(traffic, tracklets).items()}
    dead = traffic.streets.cameras[int(np.flatnonzero(tracklets.dead)[0])]
    assert not any(row["camera"] == dead for row in tables["truth.csv"])
    assert any(row["camera"] == dead and not row["tracklets"] for row in tables["truth_trips.csv"])
    assert not any(
        dead in (row["from"], row["to"]) for row in tables["truth_od.csv"] + tables["truth_travel_times.csv"]
    )
    merged = [row for row in tables["truth.csv"] if row["merged_with"]]
    assert len(merged) > 50 and all(row["merged_with"] != row["vehicle"] for row in merged)
    shown = Counter(name for row in tables["truth_trips.csv"] for name in row["tracklets"].split())
    assert {name for name, count in shown.items() if count == 2} == {row["tracklet"] for row in merged}
    broken = [row for row in tables["truth_trips.csv"] if " " in row["tracklets"]]
    assert len(broken) / len(traffic.passes) == pytest.approx(preset.broken, abs=0.01)


def test_the_folder_is_read_by_its_table_of_images(trips_world: Path, run: Run) -> None:
    dataset = open_dataset(trips_world)
    assert (dataset.gallery.camera.distinct, dataset.gallery.tracklet.distinct) == (
        4,
        len(rows(trips_world / "truth.csv")),
    )
    assert not dataset.gallery.identity.known.any() and np.isfinite(dataset.gallery.time).all()
    assert run(f"check {trips_world / 'images.csv'}").code == 0


def test_the_same_bytes_from_one_process_and_from_two(tmp_path: Path) -> None:
    one = simulate(tmp_path / "one", preset=MICRO, layout=TRIPS, seed=3, workers=1)
    two = simulate(tmp_path / "two", preset=MICRO, layout=TRIPS, seed=3, workers=2)
    assert one.content_hash == two.content_hash
    assert state(one.path) == state(two.path)
    assert simulate(tmp_path / "one", preset=MICRO, layout=TRIPS, seed=3).reused
    next((tmp_path / "two").rglob("*.jpg")).unlink()
    with pytest.raises(InputError, match=r"images instead of \d+; choose another folder or remove this one"):
        simulate(tmp_path / "two", preset=MICRO, layout=TRIPS, seed=3)
    with pytest.raises(InputError, match="preset 'tiny' is not one of layout 'trips'"):
        simulate(tmp_path / "x", preset=PRESETS["tiny"], layout=TRIPS, seed=0)


def test_white_vans_are_a_setting(tmp_path: Path) -> None:
    made = simulate(tmp_path / "vans", preset=replace(MICRO, white_vans=True), layout=TRIPS, seed=3, workers=1)
    plain = simulate(tmp_path / "plain", preset=MICRO, layout=TRIPS, seed=3, workers=1)
    assert [row["start"] for row in rows(made.path / "truth.csv")] == [
        row["start"] for row in rows(plain.path / "truth.csv")
    ]  # the traffic is the same, only its looks differ
    assert made.content_hash != plain.content_hash


def test_the_command_writes_trips(run: Run, trips_world: Path, tmp_path: Path) -> None:
    done = run(f"simulate {trips_world} --layout trips --preset tiny --seed 1 --json")
    assert done.code == 0 and json.loads(done.out)["reused"] is True
    reported(run(f"simulate {tmp_path}/x --layout trips --preset smoke"), "There is no preset 'smoke'")

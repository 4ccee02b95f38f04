"""The plan of a simulated city: vehicles, roads, trips; nothing is rendered here."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid.errors import InputError
from vreid.simulator.city.identities import BUS_COLORS, COLOR_SHARES, TYPE_SHARES, draw_vehicles
from vreid.simulator.city.plan import World, plan_world
from vreid.simulator.city.presets import PRESETS, Scene, preset_named
from vreid.simulator.city.roads import RoadMap, build_roads, gabriel_graph
from vreid.simulator.render.camera import SCENARIOS
from vreid.simulator.vehicle.vehicles import COLORS, TYPES

TINY, DEMO, CITY = PRESETS["tiny"], PRESETS["demo"], PRESETS["city"]


@pytest.fixture(scope="module")
def demo() -> World:
    return plan_world(DEMO, 3)


# ------------------------------------------------------------------------------------------------ presets


def test_presets_have_the_sizes_that_the_documentation_promises() -> None:
    assert DEMO.train_identities >= 250 and 2 * DEMO.test_identities >= 80 and DEMO.synthetic_identities == 300
    assert CITY.train_identities >= 1500 and 2 * CITY.test_identities >= 500 and CITY.synthetic_identities == 1362
    assert len(CITY.seen_cameras + CITY.new_cameras) == 46 and CITY.longest_side == 256
    assert CITY.new_cameras == ("c041", "c042", "c043", "c044", "c045", "c046")
    assert CITY.seen_cameras[-1] == "c040"
    assert plan_world(CITY, 1).images == pytest.approx(45_000, rel=0.02)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_documentation_reports_what_is_planned(preset) -> None:
    world = plan_world(preset, 1)
    test = [t for t in world.travellers if t.split == "test"]
    passes = sum(len(t.passes) for t in test)
    counts = (
        preset.train_identities,
        len(test),
        len(world.posed),
        len(world.cameras),
        sum(t.images for t in world.travellers if t.split == "train"),
        passes,
        sum(t.images for t in test) - passes,
        sum(p.images for p in world.posed),
    )
    line = f"| {preset.name} | {' | '.join(f'{count:,}' for count in counts)} | {preset.longest_side} px |"
    assert line in (Path(__file__).parents[3] / "docs" / "guides" / "simulator.md").read_text().splitlines()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_only_the_new_scene_has_an_unseen_scenario(preset) -> None:
    assert SCENARIOS[preset.new_scene.scenario].unseen
    assert not any(SCENARIOS[scene.scenario].unseen for scene in preset.scenes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scenes": ()}, "scenes must hold 1 to 40 cameras"),
        ({"scenes": (Scene("day_a", 41),), "new_scene": Scene("night", 41)}, "scenes must hold 1 to 40 cameras"),
        ({"new_scene": Scene("night", 3)}, "as many cameras as the last of scenes"),
        ({"cameras_per_trip": (1, 2)}, "cameras_per_trip is 1; give a whole number of at least 2"),
        ({"cameras_per_trip": (2, 3)}, "not exceed the 2 cameras"),
        ({"train_frames": (0, 2)}, "train_frames"),
        ({"train_frames": (3, 2)}, "train_frames"),
        ({"test_frames": (1, 2)}, "test_frames"),
        ({"train_identities": 0}, "train_identities is 0; give a whole number of at least 1"),
        ({"bystanders": -1}, "bystanders is -1"),
        ({"longest_side": 8}, "longest_side"),
        ({"motorcycle_share": 1.5}, "motorcycle_share is 1.5; give a number from 0 to 1"),
    ],
)
def test_a_wrong_preset_is_rejected_with_the_fix(change, words) -> None:
    with pytest.raises(InputError, match=f"preset 'tiny': .*{words}"):
        replace(TINY, **change)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(InputError, match="no preset 'dmeo'; did you mean 'demo'"):
        preset_named("dmeo")
    with pytest.raises(InputError, match="Known: tiny, demo, smoke, city"):
        preset_named("x")


# ------------------------------------------------------------------------------------------------ vehicles


def kind(vehicle) -> tuple[str, str, int]:
    return vehicle.vehicle_type, vehicle.color, vehicle.model


def test_shares_name_every_type_and_colour_once() -> None:
    assert sorted(TYPE_SHARES) == sorted(TYPES) and sorted(COLOR_SHARES) == sorted(COLORS)
    assert sum(TYPE_SHARES.values()) == pytest.approx(1) and sum(COLOR_SHARES.values()) == pytest.approx(1)


def test_look_alikes_share_the_kind_and_nothing_else() -> None:
    vehicles = draw_vehicles(5, CITY, "train", 1500)
    assert len({v.details for v in vehicles}) == 1500
    groups = Counter(map(kind, vehicles))
    assert max(groups.values()) == 3
    # A vehicle copies with chance 1/2 and few are refused: near half of them are not the first of their kind.
    assert 0.40 < 1 - len(groups) / 1500 < 0.62


def test_without_look_alikes_the_shares_are_those_of_the_tables() -> None:
    vehicles = draw_vehicles(6, replace(CITY, look_alike_share=0.0, models=10_000), "train", 6000)
    types = Counter(v.vehicle_type for v in vehicles)
    colors = Counter(v.color for v in vehicles if v.vehicle_type != "bus")
    cars = sum(colors.values())
    for name, share in TYPE_SHARES.items():
        assert types[name] / 6000 == pytest.approx(share, abs=4 * np.sqrt(share / 6000))
    for name, share in COLOR_SHARES.items():
        assert colors[name] / cars == pytest.approx(share, abs=4 * np.sqrt(share / cars))
    assert {v.color for v in vehicles if v.vehicle_type == "bus"} == set(BUS_COLORS)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert draw_vehicles(1, DEMO, "train", 300)[:120] == draw_vehicles(1, DEMO, "train", 120)
    assert draw_vehicles(1, DEMO, "train", 50) != draw_vehicles(2, DEMO, "train", 50)


def test_motorcycles_are_off_unless_asked_for() -> None:
    count = Counter(v.vehicle_type for v in draw_vehicles(1, DEMO, "train", 400))["motorcycle"]
    asked = Counter(v.vehicle_type for v in draw_vehicles(1, replace(DEMO, motorcycle_share=0.3), "train", 400))
    assert count == 0 and 60 < asked["motorcycle"] < 180


# ------------------------------------------------------------------------------------------------ roads


def test_gabriel_graph_of_a_hand_worked_case() -> None:
    # A square with its centre: the diagonals run through the centre, the sides' circles just touch it (distance equal).
    points = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1.2]], dtype=float)
    assert gabriel_graph(points) == [(0, 1), (0, 3), (0, 4), (1, 2), (1, 4), (2, 4), (3, 4)]


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(2, 10))
def test_roads_join_everything_and_trips_pass_what_they_should(seed: int, first: int, second: int) -> None:
    districts = {"a": [f"a{i}" for i in range(first)], "b": [f"b{i}" for i in range(second)]}
    roads = build_roads(seed, districts)
    assert sorted(j.name for j in roads.junctions if j.has_camera) == sorted(districts["a"] + districts["b"])
    reached, edge = {0}, [0]
    while edge:
        edge = [n for here in edge for n in roads.neighbours[here] if n not in reached]
        reached |= set(edge)
    assert len(reached) == len(roads.junctions)
    assert sum(roads.junctions[r.start].district != roads.junctions[r.end].district for r in roads.roads) == 1
    for road in roads.roads:
        a, b = roads.junctions[road.start], roads.junctions[road.end]
        straight = np.hypot(a.x - b.x, a.y - b.y)
        assert straight <= road.length + 0.1 and road.length > 200 and 4 < road.length / road.mean_time < 14

    rng = np.random.default_rng(seed)
    cameras = min(second, 4)
    path = roads.draw_trip(rng, "b", cameras)
    junctions = [roads.junctions[i] for i in path]
    assert {j.district for j in junctions} == {"b"} and len(set(path)) == len(path)
    assert sum(j.has_camera for j in junctions) == cameras and junctions[0].has_camera and junctions[-1].has_camera
    assert all(b in roads.neighbours[a] for a, b in pairwise(path))
    times = roads.draw_times(rng, path)
    assert times[0] == 0 and (np.diff(times) > 7).all()


def test_a_district_stays_when_another_is_added() -> None:
    one = build_roads(4, {"a": ["c1", "c2", "c3"]})
    two = build_roads(4, {"a": ["c1", "c2", "c3"], "b": ["c4", "c5"]})
    assert two.junctions[: len(one.junctions)] == one.junctions and two.roads[: len(one.roads)] == one.roads


def test_travel_times_scatter_around_the_mean_of_the_street() -> None:
    roads = build_roads(4, {"a": ["c1", "c2", "c3", "c4"]})
    path = roads.draw_trip(np.random.default_rng(0), "a", 4)
    rng = np.random.default_rng(1)
    legs = np.diff([roads.draw_times(rng, path) for _ in range(2000)], axis=1)
    means = [roads.neighbours[a][b].mean_time for a, b in pairwise(path)]
    np.testing.assert_allclose(legs.mean(0), means, rtol=0.03)
    assert (legs.std(0) / means > 0.15).all() and (legs.std(0) / means < 0.35).all()


def test_a_trip_past_more_cameras_than_there_are_is_rejected() -> None:
    with pytest.raises(ValueError, match="no path past 3 cameras"):
        build_roads(1, {"a": ["c1", "c2"]}).draw_trip(np.random.default_rng(0), "a", 3)
    assert isinstance(build_roads(1, {"a": ["c1"]}), RoadMap)


# ------------------------------------------------------------------------------------------------ the world


def test_the_two_parts_of_the_test_are_alike_in_all_but_cameras_and_vehicles(demo: World) -> None:
    seen, new = ([t for t in demo.travellers if t.split == "test" and t.part == part] for part in ("seen", "new"))
    assert len(seen) == len(new) == DEMO.test_identities
    for a, b in zip(seen, new, strict=True):
        assert (a.vehicle.vehicle_type, a.vehicle.color) == (b.vehicle.vehicle_type, b.vehicle.color)
        assert a.vehicle.details != b.vehicle.details
        assert [p.images for p in a.passes] == [p.images for p in b.passes]
    assert Counter(Counter(kind(t.vehicle) for t in seen).values()) == Counter(
        Counter(kind(t.vehicle) for t in new).values()
    )
    cameras = [{p.camera for t in part for p in t.passes} for part in (seen, new)]
    assert len(cameras[0]) == len(cameras[1]) == 6 and not cameras[0] & cameras[1]


def test_training_cameras_include_the_seen_and_never_the_new_ones(demo: World) -> None:
    used = {
        (split, part): {p.camera for t in demo.travellers if (t.split, t.part) == (split, part) for p in t.passes}
        for split, part in (("train", "seen"), ("test", "seen"), ("test", "new"))
    }
    assert used["test", "seen"] < used["train", "seen"] == {i for i, c in enumerate(demo.cameras) if c.part == "seen"}
    assert used["test", "new"] == {i for i, c in enumerate(demo.cameras) if c.part == "new"}


def test_a_trip_stays_in_one_scene_and_its_times_leave_room_to_drive(demo: World) -> None:
    assert len({t.identity for t in demo.travellers}) == len(demo.travellers)
    for traveller in demo.travellers:
        cameras = [demo.cameras[p.camera] for p in traveller.passes]
        assert len({c.scene for c in cameras}) == 1 and len({c.name for c in cameras}) == len(cameras)
        assert DEMO.cameras_per_trip[0] <= len(cameras) <= DEMO.cameras_per_trip[1]
        assert (np.diff([p.time for p in traveller.passes]) > 7).all()
        assert cameras[0].video_start + 10 <= traveller.passes[0].time < cameras[0].video_start + 3600


def test_labels_in_the_new_scene_add_training_there_and_change_nothing_else(demo: World) -> None:
    labelled = plan_world(replace(DEMO, label_new_scene=True), 3)
    before = len(demo.travellers)
    assert labelled.travellers[:before] == demo.travellers
    assert (labelled.cameras, labelled.posed, labelled.bystanders) == (demo.cameras, demo.posed, demo.bystanders)
    extra = labelled.travellers[before:]
    assert {(t.split, t.part) for t in extra} == {("train", "new")}
    # As many identities for each camera as the cameras that were there have.
    assert len(extra) / 6 == DEMO.train_identities / 12


def test_looser_boxes_change_nothing_else_of_the_plan(demo: World) -> None:
    loose = plan_world(replace(DEMO, looseness=4.0), 3)
    assert loose.travellers == demo.travellers
    for camera, as_it_was in zip(loose.cameras, demo.cameras, strict=True):
        assert camera.spec.looseness == 4 * as_it_was.spec.looseness
        assert replace(camera, spec=replace(camera.spec, looseness=as_it_was.spec.looseness)) == as_it_was


def test_fewer_identities_are_the_first_ones_of_more(demo: World) -> None:
    fewer = plan_world(replace(DEMO, train_identities=24, synthetic_identities=7), 3)
    for a, b in zip(fewer.travellers[:24], demo.travellers, strict=False):
        assert (a.vehicle, a.passes) == (b.vehicle, b.passes)
    assert fewer.posed == demo.posed[:7]
    tests = [[(t.vehicle, t.passes) for t in w.travellers if t.split == "test"] for w in (fewer, demo)]
    assert tests[0] == tests[1]


@pytest.mark.parametrize("seed", range(4))
def test_no_night_is_of_one_colour(seed: int) -> None:
    world = plan_world(PRESETS["demo"], seed)
    warmth = [np.log(c.spec.sensor.balance[0] / c.spec.sensor.balance[2]) for c in world.cameras if c.part == "new"]
    assert max(warmth) - min(warmth) > 0.5

"""The data doctor: each seeded defect is found with its file and row, alone and beside another; clean is clean."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.town import CAMERAS, START, Found, Town
from vreid.data.findings import Finding

# --------------------------------------------------------------------------------------------------------- the defects


def missing(town: Town) -> Found:
    town.image(0).unlink()
    return [("missing image", 0)]


def truncated(town: Town) -> Found:
    town.image(10).write_bytes(town.image(10).read_bytes()[:200])
    return [("unreadable image", 10)]


def no_image(town: Town) -> Found:
    town.image(75).write_text("<html>404</html>")
    return [("unreadable image", 75)]


def tiny(town: Town) -> Found:
    town.draw(town.rows[2], np.random.default_rng(1).integers(0, 256, (9, 30, 3), dtype=np.uint8))
    return [("tiny crop", 2)]


def tiny_box(town: Town) -> Found:
    town.rows[11].update(x1=4, y1=5, x2=34, y2=14)
    return [("tiny crop", 11)]


def box_outside(town: Town) -> Found:
    town.rows[67].update(x1=100, y1=5, x2=140, y2=30)
    return [("box outside image", 67)]


def box_half_outside(town: Town) -> Found:
    town.rows[68].update(x1=20, y1=5, x2=90, y2=30)
    return [("box outside image", 68)]


def blank(town: Town) -> Found:
    town.draw(town.rows[13], np.zeros((30, 40, 3), dtype=np.uint8))
    return [("blank image", 13)]


def one_train_camera(town: Town) -> Found:
    for row in town.rows[:63]:
        row.update(camera="north", tracklet="")
    return [("one camera", 0)]


def one_test_camera(town: Town) -> Found:
    for row in town.rows[63:]:
        row.update(camera="north", tracklet="")
    return [("one camera", 63)]


def camera_per_image(town: Town) -> Found:
    for number, row in enumerate(town.rows[:63]):
        row.update(camera=f"{number}", tracklet="")
    return [("camera per image", 0), ("image with two cameras", 2)]  # of the vehicle that waits


def identity_per_image(town: Town) -> Found:
    for number, row in enumerate(town.rows[:63]):
        row.update(identity=f"t{number}", tracklet="")
    return [("identity per image", 0), ("image with two identities", 2), ("identity seen by one camera", 0)]


def one_identity(town: Town) -> Found:
    for row in town.rows[:63]:
        row.update(identity="car", tracklet="", color="", type="")
    return [("one identity", 0)]


def columns_swapped(town: Town) -> Found:
    for row in town.rows:
        row.update(identity=f"c{CAMERAS.index(row['camera'])}", camera=row["identity"], tracklet="", color="", type="")
    return [("identity and camera swapped", 0), ("identity in train and test", 63)]


def misspelt_camera(town: Town) -> Found:
    town.rows[town.at(8, "south", 2)].update(camera="South ", tracklet="")
    return [("inconsistent spelling", 80), ("camera with one image", 80)]


def lonely_camera(town: Town) -> Found:
    town.rows[town.at(1, "south", 1)].update(camera="soooth", tracklet="")
    return [("camera with one image", 16)]


def camera_forgotten(town: Town) -> Found:
    town.rows[town.at(9, "north", 1)].update(camera="", tracklet="")
    return [("no camera", 82)]


def identity_forgotten(town: Town) -> Found:
    town.rows[town.at(2, "north", 1)].update(identity="", tracklet="")
    return [("no identity", 19)]


def stays_in_one_camera(town: Town) -> Found:
    for number in (town.at(3, "east"), town.at(3, "south")):
        for row in town.rows[number : number + 3]:
            row.update(identity="v00", tracklet="", color="", type="")
    return [("identity seen by one camera", 27)]


def query_without_positive(town: Town) -> Found:
    for number in [*town.of(identity="v10", split="gallery")]:
        town.rows[number].update(identity="", tracklet="")
    return [("query without positive match", 90)]


def in_train_and_test(town: Town) -> Found:
    for number in town.of(identity="v11"):
        town.rows[number].update(identity="v04", color="", type="")
    return [("identity in train and test", 99)]


def copied_into_test(town: Town) -> Found:
    town.image(74).write_bytes(town.image(34).read_bytes())
    return [("image in train and test", 74)]


def saved_again_in_test(town: Town) -> Found:
    with Image.open(town.image(35)) as image:
        buffer = io.BytesIO()
        image.resize((60, 45)).point(lambda level: 0.85 * level).save(buffer, "JPEG", quality=85)
    town.image(86).write_bytes(buffer.getvalue())
    return [("image in train and test", 86)]


def of_two_vehicles(town: Town) -> Found:
    town.image(38).write_bytes(town.image(3).read_bytes())
    return [("image with two identities", 38)]


def of_two_cameras(town: Town) -> Found:
    with Image.open(town.image(36)) as image:
        image.point(lambda level: 0.9 * level + 10).save(town.image(39))
    return [("image with two cameras", 39)]


def twice(town: Town) -> Found:
    town.image(49).write_bytes(town.image(48).read_bytes())
    return [("duplicate image", 49)]


def query_in_gallery(town: Town) -> Found:
    town.rows[town.at(9, "south", 1)]["camera"] = ""  # so the protocol cannot know that it is the query's own pass
    town.image(88).write_bytes(town.image(87).read_bytes())
    return [("query in gallery", 88), ("no camera", 88)]


def two_cameras_in_a_tracklet(town: Town) -> Found:
    town.rows[town.at(4, "east", 2)]["camera"] = "south"
    return [("tracklet with two cameras", 41)]


def two_vehicles_in_a_tracklet(town: Town) -> Found:
    town.rows[town.at(5, "north", 2)].update(identity="v06", color="red", type="van")
    return [("tracklet with two identities", 47)]


def two_colours(town: Town) -> Found:
    town.rows[50]["color"] = "gold"
    return [("identity with two colours", 50)]


def two_types(town: Town) -> Found:
    town.rows[53]["type"] = "bus"
    return [("identity with two types", 53)]


def hole(town: Town) -> Found:
    town.rows[town.at(6, "north", 2)].update(time=START + 20000, frame=200000)
    return [("gap in tracklet", 56)]


def backwards(town: Town) -> Found:
    town.rows[town.at(6, "east", 2)]["time"] -= 30
    return [("frame order contradicts time", 59)]


def twice_in_a_frame(town: Town) -> Found:
    town.rows[62]["frame"] = town.rows[61]["frame"]
    return [("tracklet repeated in frame", 62)]


def milliseconds(town: Town) -> Found:
    for row in town.rows:
        row["time"] = int(1000 * row["time"])
    return [("time in another unit", 0)]


def before_1990(town: Town) -> Found:
    town.rows[64]["time"] = 30
    return [("time before 1990", 64)]


def in_the_future(town: Town) -> Found:
    town.rows[65]["time"] = "2126-05-01T12:00:00Z"
    return [("time in the future", 65)]


def equal_times(town: Town) -> Found:
    for number in town.of(camera="east"):
        town.rows[number]["time"] = START
    return [("constant time", 3)]


def clock_off(town: Town) -> Found:
    for number in town.of(camera="south"):
        town.rows[number]["time"] += 7 * 3600
    return [("clock offset", 6)]


def listed_twice(town: Town) -> Found:
    town.rows.append(dict(town.rows[20]))
    return [("duplicate entry", len(town.rows) - 1)]


def no_number(town: Town) -> Found:
    town.rows[23]["time"] = "noon"
    return [("label", 23)]


def wrong_split(town: Town) -> Found:
    town.rows[24]["split"] = "trian"
    return [("label", 24)]


DEFECTS: tuple[Callable[[Town], Found], ...] = (
    missing,
    truncated,
    no_image,
    tiny,
    tiny_box,
    box_outside,
    box_half_outside,
    blank,
    one_train_camera,
    one_test_camera,
    camera_per_image,
    identity_per_image,
    one_identity,
    columns_swapped,
    misspelt_camera,
    lonely_camera,
    camera_forgotten,
    identity_forgotten,
    stays_in_one_camera,
    query_without_positive,
    in_train_and_test,
    copied_into_test,
    saved_again_in_test,
    of_two_vehicles,
    of_two_cameras,
    twice,
    query_in_gallery,
    two_cameras_in_a_tracklet,
    two_vehicles_in_a_tracklet,
    two_colours,
    two_types,
    hole,
    backwards,
    twice_in_a_frame,
    milliseconds,
    before_1990,
    in_the_future,
    equal_times,
    clock_off,
    listed_twice,
    no_number,
    wrong_split,
)

SWEEPING = {
    one_train_camera,
    one_test_camera,
    camera_per_image,
    identity_per_image,
    one_identity,
    columns_swapped,
    milliseconds,
    equal_times,
}
"""They write a whole column anew, and with it what another defect may have written there."""
OF_IMAGES = {missing, truncated, no_image, tiny, tiny_box, box_outside, box_half_outside, blank}
PAIRS = [
    (one, other) for one, other in combinations(DEFECTS, 2) if not {one, other} & SWEEPING or {one, other} & OF_IMAGES
]


@pytest.mark.parametrize("seed", range(3))
def test_a_clean_town_has_no_finding(tmp_path: Path, seed: int) -> None:
    assert Town(tmp_path, seed).examine() == []


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_each_defect_is_found_with_its_row_and_nothing_else(tmp_path: Path, defect: Callable[[Town], Found]) -> None:
    town = Town(tmp_path)
    expected = defect(town)
    findings = town.examine()
    assert [(f.check, f.where) for f in findings] == [(check, town.where(row)) for check, row in expected]
    for finding in findings:
        assert finding.fix and finding.message
        assert not (finding.message + finding.fix).endswith(".")
        assert str(finding).count("\n") == 0


@pytest.mark.parametrize("seed", range(80))
def test_two_defects_are_both_found_with_their_rows(tmp_path: Path, seed: int) -> None:
    defects = random.Random(seed).choice(PAIRS)
    town = Town(tmp_path, seed)
    expected = [defect(town)[0] for defect in defects]
    findings = town.examine()
    for check, row in expected:
        named = [f for f in findings if f.check == check and town.where(row) in (f.where, *others(town, f))]
        assert named, (*defects, check, town.where(row), findings)


def others(town: Town, finding: Finding) -> list[str]:
    """Further rows that a finding counts, as `where` would give them."""
    _, _, more = finding.message.rpartition(" more: ")
    return [f"{town.table}, line {number}" for number in re.findall(r"line (\d+)", more)]

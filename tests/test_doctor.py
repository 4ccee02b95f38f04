"""The data doctor: each seeded defect is found with its file and row, alone and beside another; clean is clean."""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vreid.data.dataset import open_dataset
from vreid.data.doctor import examine
from vreid.data.findings import Finding

START = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
CAMERAS = ("north", "east", "south")
Row = dict[str, Any]
Found = list[tuple[str, int]]
"""Names of checks and the rows (from 0) that each must name."""


class Town:
    """A clean table with pictures: seven vehicles to train on and five to find, each passing three cameras.

    The picture moves on during a pass, but two vehicles wait, so that their pictures differ in noise only. `rows` and
    pictures may be damaged before `examine`.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.rows = folder, []
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(seed)
        for vehicle in range(12):
            split = "train" if vehicle < 7 else "gallery"
            for place, camera in enumerate(CAMERAS):
                look = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
                for number in range(3):
                    seconds = 600 * vehicle + 90 * place + 0.5 * number
                    row = {
                        "path": f"{vehicle:02d}_{camera}_{number}.png",
                        "identity": f"v{vehicle:02d}",
                        "camera": camera,
                        "tracklet": f"{camera}-{vehicle}",
                        "frame": int(10 * seconds),
                        "time": START + seconds,
                        "scene": "centre",
                        "color": ("red", "blue", "white")[vehicle % 3],
                        "type": ("van", "sedan")[vehicle % 2],
                        "split": "query" if split == "gallery" and number == 0 else split,
                        "x1": "",
                        "y1": "",
                        "x2": "",
                        "y2": "",
                    }
                    self.rows.append(row)
                    shift = 0 if vehicle in (0, 7) else 3 * number
                    box = (shift / 8, shift / 8, 7 + shift / 8, 5 + shift / 8)
                    large = np.asarray(Image.fromarray(look).resize((40, 30), box=box), dtype=float)
                    self.draw(row, np.clip(large + rng.normal(0, 2, large.shape), 0, 255).astype(np.uint8))

    def draw(self, row: Row, levels: Any) -> None:
        Image.fromarray(levels).save(self.folder / row["path"])

    def picture(self, number: int) -> Path:
        return self.folder / self.rows[number]["path"]

    def at(self, vehicle: int, camera: str, number: int = 0) -> int:
        """The row of a picture."""
        return 9 * vehicle + 3 * CAMERAS.index(camera) + number

    def of(self, **wanted: Any) -> Iterable[int]:
        return [i for i, row in enumerate(self.rows) if all(row[k] == v for k, v in wanted.items())]

    @property
    def table(self) -> Path:
        return self.folder / "cars.csv"

    def where(self, number: int) -> str:
        return f"{self.table}, line {number + 2}"

    def examine(self) -> list[Finding]:
        with open(self.table, "w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        told: list[Finding] = []
        return told + examine(open_dataset(self.table, tell=told.append), workers=1)


# --------------------------------------------------------------------------------------------------------- the defects


def missing(town: Town) -> Found:
    town.picture(0).unlink()
    return [("missing picture", 0)]


def truncated(town: Town) -> Found:
    town.picture(10).write_bytes(town.picture(10).read_bytes()[:200])
    return [("unreadable picture", 10)]


def no_picture(town: Town) -> Found:
    town.picture(75).write_text("<html>404</html>")
    return [("unreadable picture", 75)]


def tiny(town: Town) -> Found:
    town.draw(town.rows[2], np.random.default_rng(1).integers(0, 256, (9, 30, 3), dtype=np.uint8))
    return [("tiny crop", 2)]


def tiny_box(town: Town) -> Found:
    town.rows[11].update(x1=4, y1=5, x2=34, y2=14)
    return [("tiny crop", 11)]


def box_outside(town: Town) -> Found:
    town.rows[67].update(x1=100, y1=5, x2=140, y2=30)
    return [("box outside the picture", 67)]


def box_half_outside(town: Town) -> Found:
    town.rows[68].update(x1=20, y1=5, x2=90, y2=30)
    return [("box outside the picture", 68)]


def blank(town: Town) -> Found:
    town.draw(town.rows[13], np.zeros((30, 40, 3), dtype=np.uint8))
    return [("blank picture", 13)]


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
    return [("camera per image", 0), ("picture of two cameras", 2)]  # of the vehicle that waits


def identity_per_image(town: Town) -> Found:
    for number, row in enumerate(town.rows[:63]):
        row.update(identity=f"t{number}", tracklet="")
    return [("identity per image", 0), ("picture of two identities", 2), ("identity in one camera", 0)]


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
    return [("two spellings", 80), ("camera with one image", 80)]


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
    return [("identity in one camera", 27)]


def query_without_mate(town: Town) -> Found:
    for number in [*town.of(identity="v10", split="gallery")]:
        town.rows[number].update(identity="", tracklet="")
    return [("query without mate", 90)]


def in_train_and_test(town: Town) -> Found:
    for number in town.of(identity="v11"):
        town.rows[number].update(identity="v04", color="", type="")
    return [("identity in train and test", 99)]


def copied_into_test(town: Town) -> Found:
    town.picture(74).write_bytes(town.picture(34).read_bytes())
    return [("picture in train and test", 74)]


def saved_again_in_test(town: Town) -> Found:
    with Image.open(town.picture(35)) as picture:
        buffer = io.BytesIO()
        picture.resize((60, 45)).point(lambda level: 0.85 * level).save(buffer, "JPEG", quality=85)
    town.picture(86).write_bytes(buffer.getvalue())
    return [("picture in train and test", 86)]


def of_two_vehicles(town: Town) -> Found:
    town.picture(38).write_bytes(town.picture(3).read_bytes())
    return [("picture of two identities", 38)]


def of_two_cameras(town: Town) -> Found:
    with Image.open(town.picture(36)) as picture:
        picture.point(lambda level: 0.9 * level + 10).save(town.picture(39))
    return [("picture of two cameras", 39)]


def twice(town: Town) -> Found:
    town.picture(49).write_bytes(town.picture(48).read_bytes())
    return [("same picture twice", 49)]


def query_in_gallery(town: Town) -> Found:
    town.rows[town.at(9, "south", 1)]["camera"] = ""  # so the protocol cannot know that it is the query's own pass
    town.picture(88).write_bytes(town.picture(87).read_bytes())
    return [("query in gallery", 88), ("no camera", 88)]


def two_cameras_in_a_tracklet(town: Town) -> Found:
    town.rows[town.at(4, "east", 2)]["camera"] = "south"
    return [("tracklet over two cameras", 41)]


def two_vehicles_in_a_tracklet(town: Town) -> Found:
    town.rows[town.at(5, "north", 2)].update(identity="v06", color="red", type="van")
    return [("tracklet over two identities", 47)]


def two_colours(town: Town) -> Found:
    town.rows[50]["color"] = "gold"
    return [("identity of two colours", 50)]


def two_types(town: Town) -> Found:
    town.rows[53]["type"] = "bus"
    return [("identity of two types", 53)]


def hole(town: Town) -> Found:
    town.rows[town.at(6, "north", 2)].update(time=START + 20000, frame=200000)
    return [("tracklet with a hole", 56)]


def backwards(town: Town) -> Found:
    town.rows[town.at(6, "east", 2)]["time"] -= 30
    return [("frames against times", 59)]


def twice_in_a_frame(town: Town) -> Found:
    town.rows[62]["frame"] = town.rows[61]["frame"]
    return [("tracklet twice in a frame", 62)]


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
    return [("equal times", 3)]


def clock_off(town: Town) -> Found:
    for number in town.of(camera="south"):
        town.rows[number]["time"] += 7 * 3600
    return [("clock off", 6)]


def listed_twice(town: Town) -> Found:
    town.rows.append(dict(town.rows[20]))
    return [("listed twice", len(town.rows) - 1)]


def no_number(town: Town) -> Found:
    town.rows[23]["time"] = "noon"
    return [("label", 23)]


def wrong_split(town: Town) -> Found:
    town.rows[24]["split"] = "trian"
    return [("label", 24)]


DEFECTS: tuple[Callable[[Town], Found], ...] = (
    missing,
    truncated,
    no_picture,
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
    query_without_mate,
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
OF_PICTURES = {missing, truncated, no_picture, tiny, tiny_box, box_outside, box_half_outside, blank}
PAIRS = [
    (one, other) for one, other in combinations(DEFECTS, 2) if not {one, other} & SWEEPING or {one, other} & OF_PICTURES
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
        assert finding.mend and finding.message
        assert not (finding.message + finding.mend).endswith(".")
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

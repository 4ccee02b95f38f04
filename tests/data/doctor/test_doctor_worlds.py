"""The data doctor on folders of the field, on worlds of every layout and on real images."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from vreid.data.doctor import examine
from vreid.data.findings import Finding
from vreid.data.open import open_dataset

REAL, SYNTHETIC = "AIC21_Track2_ReID", "AIC21_Track2_ReID_Simulation"
TWO_CAMERAS = Path(os.environ.get("VREID_TWO_CAMERAS", Path(__file__).parents[4] / "shared" / "data" / "two_cameras"))


def check(source: Path) -> list[Finding]:
    reported: list[Finding] = []
    dataset = open_dataset(source, labels="auto", on_finding=reported.append)
    return reported + examine(dataset, workers=1)


# ------------------------------------------------------------------------------------------------- clean data is clean


@pytest.mark.parametrize(("layout", "seed"), [("cityflow", 2), ("cityflow", 3), ("cityflow2020", 4), ("veri", 2)])
def test_simulated_worlds_have_no_finding(tmp_path: Path, layout: str, seed: int) -> None:
    from vreid.simulator import simulate

    world = simulate(tmp_path / "world", preset="tiny", seed=seed, layout=layout, workers=1).path
    assert check(world) == []


def test_a_world_and_its_synthetic_set_have_no_finding(tiny_world: Path) -> None:
    assert check(tiny_world) == []
    assert check(tiny_world / SYNTHETIC) == []


def test_a_larger_plan_has_no_finding(sketch: SimpleNamespace, tmp_path: Path) -> None:
    from vreid.simulator import PRESETS, simulate

    preset = replace(PRESETS["demo"], name="town", train_identities=60, test_identities=12, synthetic_identities=30)
    world = simulate(tmp_path / "world", preset=preset, seed=5, workers=1).path
    assert sketch.shots > 500
    assert check(world) == []
    assert check(world / SYNTHETIC) == []


@pytest.mark.skipif(not TWO_CAMERAS.is_dir(), reason="the real images are not on this machine (VREID_TWO_CAMERAS)")
def test_real_images_have_no_finding() -> None:
    assert check(TWO_CAMERAS) == []


# ------------------------------------------------------------------------------------------------ folders of the field


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def truncated(world: Path) -> list[tuple[str, str]]:
    image = world / REAL / "image_train" / "000017.jpg"
    image.write_bytes(image.read_bytes()[:400])
    return [("unreadable image", "train_label.xml, Item 17")]


def missing(world: Path) -> list[tuple[str, str]]:
    (world / REAL / "image_query" / "000003.jpg").unlink()
    return [("missing image", "query_label.xml, Item 3")]


def leaked(world: Path) -> list[tuple[str, str]]:
    shutil.copy(world / REAL / "image_train" / "000020.jpg", world / REAL / "image_test" / "000007.jpg")
    return [("image in train and test", "test_label.xml, Item 7")]


def bad_camera(world: Path) -> list[tuple[str, str]]:
    path = world / REAL / "train_label.xml"
    line = next(line for line in path.read_text().splitlines() if "000012.jpg" in line)
    edit(path, line, re.sub(r'cameraID="c\d+"', 'cameraID="bridge"', line))
    return [("label", "train_label.xml, Item 12")]


def twice_in_tracks(world: Path) -> list[tuple[str, str]]:
    path = world / REAL / "train_track.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], f"{lines[4]} {lines[1].split()[0]}", *lines[5:]]) + "\n")
    return [("duplicate entry", "train_track.txt, line 5")]


def colour_out_of_range(world: Path) -> list[tuple[str, str]]:
    path = world / SYNTHETIC / "train_label.xml"
    line = next(line for line in path.read_text().splitlines() if "00002_" in line)
    edit(path, line, re.sub(r'colorID="\d+"', 'colorID="40"', line))
    number = path.read_text().splitlines().index(re.sub(r'colorID="\d+"', 'colorID="40"', line)) - 2
    return [("label out of range", f"train_label.xml, Item {number}")]


def orientation_in_words(world: Path) -> list[tuple[str, str]]:
    path = world / SYNTHETIC / "train_label.xml"
    edit(path, 'orientation="', 'orientation="north ')
    return [("label", "train_label.xml, Item 1")]


@pytest.mark.parametrize(
    ("folder", "defect"),
    [
        (REAL, truncated),
        (REAL, missing),
        (REAL, leaked),
        (REAL, bad_camera),
        (REAL, twice_in_tracks),
        (SYNTHETIC, colour_out_of_range),
        (SYNTHETIC, orientation_in_words),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_defects_of_folders_are_found_in_their_label_files(
    tiny_world: Path, tmp_path: Path, folder: str, defect: Callable[[Path], list[tuple[str, str]]]
) -> None:
    world = tmp_path / "world"
    shutil.copytree(tiny_world, world)
    expected = defect(world)
    found = [(f.check, f.where.removeprefix(f"{world / folder}/")) for f in check(world / folder)]
    assert found == expected

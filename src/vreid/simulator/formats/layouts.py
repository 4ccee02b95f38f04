"""Layouts: folder structures of published data sets that the simulator writes.

Common steps (rendering, query selection, ground truth) are in `write`; a layout defines image folders and names, label
files, and restrictions of the world.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from vreid.data.seeds import generator
from vreid.errors import InputError, named
from vreid.simulator.city.plan import World, plan_world
from vreid.simulator.city.presets import Preset, Scene
from vreid.simulator.formats.label_files import FOLDERS, Row, items_xml
from vreid.simulator.vehicle.vehicles import COLORS, TYPES

Rows = dict[str, list[Row]]
"""Images by split, in the order in which the label files list them."""
Tracks = dict[str, list[list[Row]]]
"""Tracklets of "train" and "test", in the order of their lines; without query images that left their tracklet."""

LISTS = {"train": "name_train.txt", "query": "name_query.txt", "gallery": "name_test.txt"}
"""Lists of image names, where a data set has them."""


@dataclass(frozen=True)
class Layout:
    """Mapping from a world to the folder of one published data set.

    Attributes:
        name: name of the layout, stored in simulator.json.
        real: folder of the real-like set, with the images in image_train, image_query and image_test.
        synthetic: folder of the synthetic images; their label files are in its parent folder.
        label_files: function of images, tracklets and world that returns the text of each file in `real`, by name.
        track_name: function of the file ("train", "test"), the line (from 0) and an image that returns the name of a
            tracklet.
        image_file_name: function from an image to its file name; None: images are numbered in random order.
        queries_stay: query images are also in the gallery.
        synthetic_list: the synthetic set has a name_train.txt.
        types, colors: types and colours of the label files of the real-like set; others are not drawn.
        adapt: function that adapts a preset to this data set.
    """

    name: str
    real: str
    synthetic: str
    label_files: Callable[[Rows, Tracks, World], dict[str, str]]
    track_name: Callable[[str, int, Row], str]
    image_file_name: Callable[[Row], str] | None = None
    queries_stay: bool = False
    synthetic_list: bool = False
    types: tuple[str, ...] = TYPES
    colors: tuple[str, ...] = COLORS
    adapt: Callable[[Preset], Preset] = lambda preset: preset

    def plan(self, preset: Preset, seed: int) -> World:
        """Plan the world of `seed` in this layout; different layouts have different worlds.

        Raises:
            InputError: the preset requires something this data set does not support.
        """
        if self.name != CITYFLOW.name:  # keeps worlds made before layouts existed bit-identical
            seed = int(generator(seed, "layout", self.name).integers(2**63))
        return plan_world(self.adapt(preset), seed, types=self.types, colors=self.colors)

    def image_folders(self) -> dict[str, str]:
        """Image folders by split and "synthetic"."""
        return {split: f"{self.real}/{name}" for split, name in FOLDERS.items()} | {"synthetic": self.synthetic}

    def files(self, rows: Rows, tracks: Tracks, world: World) -> dict[str, str]:
        """Return the label files of the real-like set by their path."""
        return {f"{self.real}/{name}": text for name, text in self.label_files(rows, tracks, world).items()}

    def synthetic_files(self, rows: list[Row]) -> dict[str, str]:
        """Return the label files of the synthetic set by their path."""
        folder = PurePosixPath(self.synthetic).parent
        columns = {
            "typeID": "type_id",
            "imageName": "file",
            "cameraID": "vehiclex_camera",
            "vehicleID": "vehiclex_identity",
            "colorID": "color_id",
            "orientation": "orientation",
            "lightInt": "light_intensity",
            "lightDir": "light_direction",
            "camHei": "camera_height",
            "camDis": "camera_distance",
        }
        files = {f"{folder}/train_label.xml": items_xml(rows, columns, number="-")}
        if self.synthetic_list:
            files[f"{folder}/{LISTS['train']}"] = _lines(row["file"] for row in rows)
        return files


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


# ------------------------------------------------------------------------------------------------ CityFlow

_LABELLED = {"imageName": "file", "vehicleID": "identity", "cameraID": "camera"}


def _cityflow_files(rows: Rows, tracks: Tracks, world: World) -> dict[str, str]:
    """CityFlowV2-ReID: the test has cameras but no vehicles; tracklets list file names."""
    public = {"imageName": "file", "cameraID": "camera"}
    files = {
        f"{name}_label.xml": items_xml(rows[split], columns, number=str(len(rows[split])))
        for name, split, columns in (
            ("train", "train", _LABELLED),
            ("query", "query", public),
            ("test", "gallery", public),
        )
    }
    for name, members in tracks.items():
        files[f"{name}_track.txt"] = _lines(" ".join(row["file"] for row in track) for track in members)
    return files


def _cityflow2020_files(rows: Rows, tracks: Tracks, world: World) -> dict[str, str]:
    """CityFlow-ReID of 2020: the test has neither vehicles nor cameras; tracklets list bare numbers."""
    files = {"train_label.xml": items_xml(rows["train"], _LABELLED, number=str(len(rows["train"])), encoding="gb2312")}
    for split, name in LISTS.items():
        files[name] = _lines(row["file"] for row in rows[split])
    for name, members in tracks.items():
        files[f"{name}_track_id.txt"] = _lines(
            " ".join(str(int(PurePosixPath(row["file"]).stem)) for row in track) for track in members
        )
    return files


def _file_and_line(name: str, line: int, row: Row) -> str:
    return f"{name}_{line:05d}"


# ------------------------------------------------------------------------------------------------ VeRi

VERI_CLASSES = COLORS[:10], TYPES[:9]
"""Colours and types that VeRi names, in its order; VehicleX put two of its own after either."""
KEYPOINTS = 20
"""Number of key points in VeRi's viewpoint files; all are -1 (not visible) here, only the view is given."""
VIEWS = (0, 6, 5, 7, 1, 4, 2, 3)
"""VeRi's view numbers for orientations around 0, 45, ..., 315 degrees: 0 front, 1 rear, 2 left, 3 left front, 4 left
rear, 5 right, 6 right front, 7 right rear are seen. A vehicle that turns counter-clockwise shows its right side."""


def _veri_files(rows: Rows, tracks: Tracks, world: World) -> dict[str, str]:
    """VeRi-776: everything is labelled; colours and types count from 1, index files from 1 into name_test.txt."""
    color_id, type_id = ({name: str(number) for number, name in enumerate(names, start=1)} for names in VERI_CLASSES)
    columns = {**_LABELLED, "colorID": "color_id", "typeID": "type_id"}
    files = {name: _lines(row["file"] for row in rows[split]) for split, name in LISTS.items()}
    for name, split in (("train", "train"), ("test", "gallery")):
        labelled = [
            {**row, "color_id": color_id[row["color"]], "type_id": type_id[row["vehicle_type"]]} for row in rows[split]
        ]
        files[f"{name}_label.xml"] = items_xml(labelled, columns, number=str(len(labelled)), encoding="gb2312")
        files[f"keypoint_{name}.txt"] = _lines(
            f"{row['path']} {'-1 -1 ' * KEYPOINTS}{view_number(float(row['orientation']))}" for row in rows[split]
        )
    places: dict[str, list[tuple[int, str]]] = {}
    for number, row in enumerate(rows["gallery"], start=1):
        places.setdefault(row["identity"], []).append((number, row["camera"]))
    for name, junk in (("gt_index.txt", False), ("jk_index.txt", True)):
        files[name] = _lines(
            "".join(f"{number} " for number, camera in places[row["identity"]] if (camera == row["camera"]) == junk)
            for row in rows["query"]
        )
    files["test_track.txt"] = _lines(
        f"{track[0]['tracklet']} {''.join(row['file'] + ' ' for row in track)}" for track in tracks["test"]
    )
    files["camera_ID.txt"] = _lines(camera.name for camera in world.cameras)
    files["camera_Dist.txt"] = _lines(
        " ".join(f"{math.hypot(a.x - b.x, a.y - b.y):.1f}" for b in world.cameras) for a in world.cameras
    )
    for name, number_of in (("list_color.txt", color_id), ("list_type.txt", type_id)):
        files[name] = _lines(f"{number} {word}" for word, number in number_of.items())
    return files


def view_number(orientation: float) -> int:
    """Return VeRi's number of the view at an orientation in degrees."""
    return VIEWS[round(orientation / 45) % 8]


def _veri_image_name(row: Row) -> str:
    """Return the file name: vehicle, camera, frame, and number of the vehicle in its frame (always the same here)."""
    return f"{row['identity']}_{row['camera']}_{int(row['frame']):08d}_0.jpg"


def _veri_track(name: str, line: int, row: Row) -> str:
    return f"{row['identity']}_{row['camera']}_t{line + 1:04d}"


def _one_network(preset: Preset) -> Preset:
    """Adapt a preset to VeRi: one scene with all cameras, and longer trips.

    The test has the vehicles of both parts together; trips may be twice as long, but pass at most two thirds of the
    cameras.
    """
    if preset.motorcycle_share or preset.label_new_scene:
        raise InputError(
            f"preset {preset.name!r}: VeRi has neither motorcycles nor a new scene; leave motorcycle_share at 0 and "
            "label_new_scene off."
        )
    cameras = len(preset.seen_cameras)
    least, most = preset.cameras_per_trip
    return replace(
        preset,
        scenes=(Scene(preset.scenes[0].scenario, cameras),),
        new_scene=None,
        test_identities=2 * preset.test_identities if preset.new_scene else preset.test_identities,
        cameras_per_trip=(least, max(most, min(2 * most, 2 * cameras // 3))),
    )


CITYFLOW = Layout(
    name="cityflow",
    real="AIC21_Track2_ReID",
    synthetic="AIC21_Track2_ReID_Simulation/sys_image_train",
    label_files=_cityflow_files,
    track_name=_file_and_line,
)
"""CityFlowV2-ReID and VehicleX of the AI City Challenge 2021."""

CITYFLOW2020 = Layout(
    name="cityflow2020",
    real="AIC20_track2/AIC20_ReID",
    synthetic="AIC20_track2/AIC20_ReID_Simulation/image_train",
    label_files=_cityflow2020_files,
    track_name=_file_and_line,
    synthetic_list=True,
)
"""CityFlow-ReID and VehicleX of the AI City Challenge 2020."""

VERI = Layout(
    name="veri",
    real="VeRi",
    synthetic="VeRi_ReID_Simulation/image_train",
    label_files=_veri_files,
    track_name=_veri_track,
    image_file_name=_veri_image_name,
    queries_stay=True,
    synthetic_list=True,
    types=VERI_CLASSES[1],
    colors=VERI_CLASSES[0],
    adapt=_one_network,
)
"""VeRi-776, and VehicleX as published for VeRi."""

LAYOUTS = {layout.name: layout for layout in (CITYFLOW, CITYFLOW2020, VERI)}
"""All layouts by name."""


def layout_named(name: str) -> Layout:
    """Return the layout called `name`.

    Raises:
        InputError: unknown name; the message suggests the nearest.
    """
    return named("layout", LAYOUTS, name)

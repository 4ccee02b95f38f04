"""The families of data sets, in the order in which a source is taken for one; see `vreid.data.open.open_dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.readers import (
    cityflow,
    deepstream,
    detection_tables,
    folder,
    held_out,
    image_table,
    opentrafficcam,
    tracker,
    vehicleid,
    vehiclex,
    veri,
    veri_wild,
    vric,
    yolo,
)
from vreid.data.readers.common import first_image, folders_in
from vreid.data.readers.variants import Copies
from vreid.errors import InputError


@dataclass(frozen=True)
class DatasetFamily:
    """How a data set family is detected and read.

    Attributes:
        signs: its characteristic files, listed in the message about an unknown source.
        find: maps the user's path to the data set's folder; None if it is not of the family.
        read: from that place to a `Dataset`; takes `on_finding` and the words in `takes`.
        takes: which of "labels", "test_list" and "identities" `read` understands.
        copies: returns the image folders of each variant; None: originals only.
        list_sizes: returns the test lists by name; None: there is only one.
    """

    signs: str
    find: Callable[[Path], Path | None]
    read: Callable[..., Dataset]
    takes: tuple[str, ...] = ()
    copies: Callable[[Path], Copies] | None = None
    list_sizes: Callable[[Path], Mapping[str, str]] | None = None


FAMILIES: list[DatasetFamily] = [
    DatasetFamily("split.csv with split.json (vreid data split)", held_out.find, held_out.read_split),
    DatasetFamily(
        "image_train with names like 0002_c002_00030600_0.jpg and name_train.txt or train_label.xml (VeRi-776)",
        veri.find,
        veri.read_veri,
    ),
    DatasetFamily(
        "image_train with train_label.xml (CityFlowV2-ReID, CityFlow-ReID)",
        cityflow.find,
        cityflow.read_cityflow,
        ("labels",),
        copies=cityflow.copies,
    ),
    DatasetFamily("sys_image_train (VehicleX)", vehiclex.find, vehiclex.read_vehiclex, copies=vehiclex.copies),
    DatasetFamily(
        "image with train_test_split (VehicleID)",
        vehicleid.find,
        vehicleid.read_vehicleid,
        ("test_list",),
        list_sizes=vehicleid.list_sizes,
    ),
    DatasetFamily(
        "images with train_test_split (VERI-Wild)",
        veri_wild.find,
        veri_wild.read_veri_wild,
        ("test_list",),
        list_sizes=veri_wild.list_sizes,
    ),
    DatasetFamily("vric_train.txt (VRIC)", vric.find, vric.read_vric),
    DatasetFamily(
        ".ottrk or .otdet beside videos (OpenTrafficCam)", opentrafficcam.find, opentrafficcam.read_opentrafficcam
    ),
    DatasetFamily(
        "00_000_000000.txt, ... or JSON messages beside videos (DeepStream)",
        deepstream.find,
        deepstream.read_deepstream,
    ),
    DatasetFamily(
        "CSV or JSON tables of boxes beside videos (supervision, Ultralytics)",
        detection_tables.find,
        detection_tables.read_detection_tables,
    ),
    DatasetFamily(
        "videos with a text file of boxes by the same name (MOTChallenge, BoxMOT)",
        tracker.find_videos,
        tracker.read_tracker,
        ("identities",),
    ),
    DatasetFamily("a CSV table", image_table.find, image_table.read_table),
    DatasetFamily(
        "img1 with gt/gt.txt, <camera>.txt or det/det.txt in a folder a camera (tracker output, CityFlow)",
        tracker.find,
        tracker.read_tracker,
        ("identities",),
    ),
    DatasetFamily("labels with a text file an image beside images (Ultralytics)", yolo.find, yolo.read_yolo),
    DatasetFamily(
        "images, one sub-folder per identity, and train, query, gallery sub-folders", folder.find, folder.read_folder
    ),
]

_MOST_INSIDE, _DEEPEST = 50, 3


def recognise(path: Path) -> tuple[DatasetFamily, Path] | None:
    """Detect the family of a source; return it with the data set's folder (`path` or a folder below it).

    Raises:
        InputError: the folder holds several data sets, or a file is of a known kind that is no data set.
    """
    place = path
    for _ in range(_DEEPEST):
        at = _at(place)
        plain = at is None or (at[0] is FAMILIES[-1] and not folder.has_splits(place))
        if not plain or not place.is_dir() or first_image(place):
            return at
        inner = [place / name for name in folders_in(place)[: _MOST_INSIDE + 1]]
        inside = [
            (family, own)
            for one in (inner if len(inner) <= _MOST_INSIDE else [])
            if (found := _at(one)) is not None and _is_data_set(*found, alone=len(inner) == 1)
            for family, own in [found]
        ]
        if len(inside) > 1:
            names = ", ".join(own.relative_to(place).as_posix() for _, own in inside)
            raise InputError(f"{place}: holds several data sets ({names}); name one of them.")
        if inside:
            return inside[0]
        if at is not None or len(inner) != 1:
            return at
        place = inner[0]
    return None


def _at(path: Path) -> tuple[DatasetFamily, Path] | None:
    return next(((family, place) for family in FAMILIES if (place := family.find(path)) is not None), None)


def _is_data_set(family: DatasetFamily, place: Path, *, alone: bool) -> bool:
    """Whether a subfolder is a data set of its own; tables and plain images belong to the folder above."""
    if family is FAMILIES[-1]:
        return folder.has_splits(place)
    return alone or family.read not in (image_table.read_table, yolo.read_yolo, tracker.read_tracker)

"""Write label files: XML, ground-truth tables, and the city map.

A row is one image: a dict from column name to text. Which label files a data set has is in `layouts`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from vreid.data.records import CSV_COLUMNS
from vreid.simulator.city.plan import World
from vreid.simulator.city.roads import RoadMap

Row = dict[str, str]

FOLDERS = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
"""Image folder of each split, in every layout."""
KEY_PREFIXES = {"train": "train", "query": "query", "gallery": "test"}
"""First part of an image_key, by split."""

_BOX = ("x1", "y1", "x2", "y2")
_CROP = tuple(f"crop_{side}" for side in _BOX)

GROUND_TRUTH_COLUMNS = (
    *CSV_COLUMNS,
    "part",
    "scenario",
    "model",
    *(f"frame_{side}" for side in _BOX),
    *(f"true_{side}" for side in _BOX),
    *_CROP,
    "visibility",
    "occluder",
)
"""Columns of ground_truth.csv: `CSV_COLUMNS` (x1 to y2 empty, because images are crops), then further ground truth.
frame_*: the tracker's box in pixels of the full frame; true_*: the tight box there; crop_*: the tight box in pixels of
the image; visibility: visible share of the silhouette."""

SYNTHETIC_COLUMNS = (
    *CSV_COLUMNS,
    "model",
    "light_intensity",
    "light_direction",
    "camera_height",
    "camera_distance",
    *_CROP,
)
"""synthetic.csv: light direction in degrees, camera height and distance in metres."""


def items_xml(rows: Iterable[Row], columns: dict[str, str], *, number: str, encoding: str = "utf-8") -> str:
    """Return an XML label file: `columns` maps attribute names to row columns, in order.

    Empty values are left out. `encoding` is the declared one; the text is plain ASCII, which is valid in all
    encodings in use.

    Example:
        >>> print(items_xml([{"file": "000001.jpg", "camera": "c001"}],
        ...                 {"imageName": "file", "cameraID": "camera"}, number="1"))
        <?xml version="1.0" encoding="utf-8"?>
        <TrainingImages Version="1.0">
            <Items number="1">
                <Item imageName="000001.jpg" cameraID="c001"/>
            </Items>
        </TrainingImages>
        <BLANKLINE>
    """
    lines = [f'<?xml version="1.0" encoding="{encoding}"?>', '<TrainingImages Version="1.0">']
    lines.append(f'    <Items number="{number}">')
    for row in rows:
        attributes = " ".join(f'{name}="{row[column]}"' for name, column in columns.items() if row[column])
        lines.append(f"        <Item {attributes}/>")
    lines += ["    </Items>", "</TrainingImages>", ""]
    return "\n".join(lines)


def table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return a CSV table; a column that a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def city_files(world: World) -> dict[str, str]:
    """Return cameras.csv and roads.csv, the map of the city."""
    cameras = [
        {
            "camera": c.name,
            "scene": c.scene,
            "part": c.part,
            "scenario": c.spec.scenario,
            "x": f"{c.x:.1f}",
            "y": f"{c.y:.1f}",
            "video_start": f"{c.video_start:.1f}",
            "frame_width": str(c.spec.frame_size[0]),
            "frame_height": str(c.spec.frame_size[1]),
        }
        for c in world.cameras
    ]
    return {"cameras.csv": table(tuple(cameras[0]), cameras), "roads.csv": roads_table(world.roads)}


def roads_table(roads: RoadMap) -> str:
    """Return roads.csv: streets with the places of their ends in metres, lengths, and mean travel times in seconds."""
    junctions = roads.junctions
    rows = [
        {
            "start": a.name,
            "end": b.name,
            "length": f"{road.length:.1f}",
            "mean_time": f"{road.mean_time:.1f}",
            "start_x": f"{a.x:.1f}",
            "start_y": f"{a.y:.1f}",
            "end_x": f"{b.x:.1f}",
            "end_y": f"{b.y:.1f}",
        }
        for road in roads.roads
        for a, b in [(junctions[road.start], junctions[road.end])]
    ]
    return table(tuple(rows[0]), rows)

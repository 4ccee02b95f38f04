"""A clean table with images, to be damaged by the tests of the data doctor."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vreid.data.doctor import examine
from vreid.data.findings import Finding
from vreid.data.open import open_dataset

START = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
CAMERAS = ("north", "east", "south")
Row = dict[str, Any]
Found = list[tuple[str, int]]
"""Names of checks and the rows (from 0) that each must name."""


class Town:
    """A clean table with images: seven vehicles to train on and five to find, each passing three cameras.

    The image moves on during a pass, but two vehicles wait, so that their images differ in noise only. `rows` and
    images may be damaged before `examine`.
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

    def image(self, number: int) -> Path:
        return self.folder / self.rows[number]["path"]

    def at(self, vehicle: int, camera: str, number: int = 0) -> int:
        """The row of an image."""
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
        reported: list[Finding] = []
        return reported + examine(open_dataset(self.table, on_finding=reported.append), workers=1)

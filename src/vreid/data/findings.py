"""Findings: problems of a data set with file, row and fix; and the origins of images in label files.

A reader reports each wrong row to a callback. `raise_finding` (the default) raises at once; the `append` of a list
collects findings, and the reader continues without the row or value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError


@dataclass(frozen=True)
class Finding:
    """One problem of a data set.

    Attributes:
        check: name of the check that found it, for example "tiny crop".
        where: file and row, for example "train_label.xml, Item 17", or the image itself.
        message: what is wrong, a clause without its full stop.
        fix: how to fix it, a clause without its full stop.
        split: "train", "query" or "gallery"; "" if it concerns several.
        paths: images it concerns, the most relevant first.
        boxes: for each of `paths` the region x1, y1, x2, y2, or () for the whole image; may be empty.
        paired: `paths` are pairs to compare side by side: first and second, third and fourth, ...

    Example:
        >>> str(Finding("label", "cars.csv, line 3", "camera is empty", "give the name of the camera"))
        'cars.csv, line 3: camera is empty; give the name of the camera.'
    """

    check: str
    where: str
    message: str
    fix: str
    split: str = ""
    paths: tuple[str, ...] = ()
    boxes: tuple[tuple[float, ...], ...] = ()
    paired: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message}; {self.fix}."


OnFinding = Callable[[Finding], None]
"""Callback for findings: `raise_finding`, or the `append` of a list."""


def raise_finding(finding: Finding) -> None:
    """Raise `finding` as wrong input.

    Raises:
        InputError: always.
    """
    raise InputError(str(finding))


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the images of one split are listed: row `rows[i]` (1-based) of `file` lists image i.

    Attributes:
        file: the label file or list, or (N,) that of each image.
        rows: (N,) numbers, counted in `unit`s; 0: the image is not listed there.
        unit: "Item" of an XML file, "line" of a text.
    """

    file: str | NDArray[np.object_]
    rows: NDArray[np.int64]
    unit: str = "line"

    def where(self, image: int) -> str:
        """Return file and row of image `image` (0-based)."""
        file = self.file if isinstance(self.file, str) else self.file[image]
        return f"{file}, {self.unit} {self.rows[image]}"

    def repeated(self, times: int) -> Origin:
        """Repeat the origin `times` times, one whole list after the other."""
        file = self.file if isinstance(self.file, str) else np.tile(self.file, times)
        return Origin(file, np.tile(self.rows, times), self.unit)

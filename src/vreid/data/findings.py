"""Findings: what is wrong with a data set, in words, with the file, the row and the mend; and where images are listed.

A reader reports each wrong row. Who reads to work passes `raise_finding`, which raises at once; who reads to check
passes the `append` of a list, and the reader goes on without that row or value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: name of the check that found it, for example "tiny crop".
        where: file and row, for example "train_label.xml, Item 17", or the image itself.
        message: what is wrong, a clause without its full stop.
        fix: what to do about it, the same.
        split: "train", "query", "gallery", or "" where it concerns none alone.
        paths: images it concerns, the most telling first.
        boxes: for each of `paths` the part that it is about, x1, y1, x2, y2, or () for the whole; or nothing at all.
        paired: `paths` are pairs to be looked at side by side, the first with the second, ...

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
"""What a reader does with a finding: `raise_finding`, or the `append` of a list."""


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
        """File and row of image number `image` (from 0)."""
        file = self.file if isinstance(self.file, str) else self.file[image]
        return f"{file}, {self.unit} {self.rows[image]}"

    def repeated(self, times: int) -> Origin:
        """The same for the images listed `times` over, one whole list after the other."""
        file = self.file if isinstance(self.file, str) else np.tile(self.file, times)
        return Origin(file, np.tile(self.rows, times), self.unit)

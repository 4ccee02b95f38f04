"""Input of the checks: the images of all splits in one table, and the construction of findings about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vreid.data.dataset import Dataset
from vreid.data.doctor.image_scan import ImageScan, scan_images
from vreid.data.findings import Finding
from vreid.data.records import Records
from vreid.progress import Progress

EXAMPLES = 5
"""Maximum number of further rows that a finding names; the rest are counted."""


@dataclass(frozen=True, eq=False)
class Case:
    """A data set under examination.

    Attributes:
        dataset: as it was opened.
        records: the N images of all splits, concatenated. If query and gallery are the same images (each a query
            against the others), they occur once, as the gallery.
        split: (N,) "train", "query" or "gallery".
        row: (N,) number of the image in its split, from 0.
        scan: result of reading the images.
        now: UTC seconds.
        workers: number of threads that read images.
        notes: observations of the checks that are not problems.
    """

    dataset: Dataset
    records: Records
    split: NDArray[np.object_]
    row: NDArray[np.intp]
    scan: ImageScan
    now: float
    workers: int
    notes: list[str] = field(default_factory=list)
    train: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", self.split == "train")

    @classmethod
    def of(cls, dataset: Dataset, *, workers: int, progress: Progress | None = None, now: float) -> Case:
        """Concatenate the splits and scan all images."""
        splits = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
        if dataset.query == dataset.gallery:
            del splits["query"]
        records = Records.concat(list(splits.values()))
        names = np.repeat(np.array(list(splits), dtype=object), [len(part) for part in splits.values()])
        rows = np.concatenate([np.arange(len(part)) for part in splits.values()])
        return cls(dataset, records, names, rows, scan_images(records, workers, progress), now, workers)

    def where(self, image: int) -> str:
        """Return file and row that list an image."""
        return self.dataset.where(str(self.split[image]), int(self.row[image]))

    def named(self, image: int) -> str:
        """Return " (PATH)" of an image for a message, or "" if `where` already names the path."""
        path = str(self.records.path[image])
        return "" if self.where(image) == path else f" ({path})"

    def finding(
        self, check: str, images: Sequence[int], message: str, fix: str, *, beside: Sequence[int] = ()
    ) -> Finding:
        """Build one finding about `images`: `message` describes the first; the others are counted and some are named.

        Args:
            check: name of the check.
            images: numbers in `records`, at least one.
            message: what is wrong with the first, a clause.
            fix: what to do, a clause.
            beside: for each of `images` the image to compare it with; empty if none.
        """
        first, *others = (int(image) for image in images)
        where = self.where(first)
        # Rows of the same file need not name it again.
        file = "" if where == self.records.path[first] else where.rpartition(", ")[0] + ", "
        if others:
            some = ", ".join(self.where(image) for image in others[:EXAMPLES])
            message += f" (and {len(others):,} more: {some}{', ...' if len(others) > EXAMPLES else ''})"
        if file:
            message = message.replace(file, "")
        splits = {str(self.split[image]) for image in (first, *others)}
        shown = [image for pair in zip(images, beside, strict=True) for image in pair] if beside else [first, *others]
        boxes = self.records.box[shown]
        return Finding(
            check,
            where,
            message,
            fix,
            splits.pop() if len(splits) == 1 else "",
            tuple(str(path) for path in self.records.path[shown]),
            tuple(() if np.isnan(box).any() else tuple(box.tolist()) for box in boxes),
            paired=bool(beside),
        )

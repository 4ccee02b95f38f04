"""Images of records: of files, of boxes in files, of boxes in frames of videos; here or on object storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
from PIL import Image

from vreid.data.images import cut, read_image
from vreid.data.records import Records
from vreid.data.video import VIDEOS, read_frames
from vreid.errors import InputError
from vreid.object_storage import local_copy


class RecordImages:
    """Reads the images of records.

    The last decoded file or frame of which a box was cut out is kept, as the boxes of a frame follow each other.

    Args:
        records: N images.
    """

    def __init__(self, records: Records) -> None:
        self._paths, self._boxes, self._frames = records.path, records.box, records.frame
        self._last: tuple[str, int, Image.Image] | None = None  # path, frame (-1: a file), image

    def __iter__(self) -> Iterator[Image.Image]:
        """Yield the image of each record in their order; see `read`."""
        return (image for row in range(len(self._paths)) for _, image in self.read([row]))

    def read(self, rows: Iterable[int]) -> Iterator[tuple[int, Image.Image]]:
        """Yield (row, image) of distinct rows in the order of files and frames; a file is decoded once.

        Of a video, the groups of pictures that hold the frames are decoded, so rows should be near each other.

        Raises:
            InputError: an image or frame cannot be read, or a box lies outside of it; the file is named.
        """
        order = sorted(rows, key=lambda row: (self._paths[row], self._frames[row]))
        for path, group in groupby(order, key=lambda row: str(self._paths[row])):
            if path.lower().endswith(VIDEOS):
                yield from self._of_video(path, list(group))
                continue
            for row in group:
                yield row, self._cut(row, self._file(path, alone=bool(np.isnan(self._boxes[row][0]))))

    def _file(self, path: str, *, alone: bool) -> Image.Image:
        if self._last is not None and self._last[:2] == (path, -1):
            return self._last[2]
        image = read_image(path)
        if not alone:
            self._last = path, -1, image
        return image

    def _of_video(self, path: str, rows: list[int]) -> Iterator[tuple[int, Image.Image]]:
        frames = {number: list(some) for number, some in groupby(rows, key=lambda row: int(self._frames[row]))}
        if min(frames) < 0:
            raise InputError(f"{path}: a row has no frame number; give one, or remove the row.")
        if self._last is not None and self._last[0] == path:
            yield from ((row, self._cut(row, self._last[2])) for row in frames.pop(self._last[1], ()))

        def missing(number: int) -> None:
            raise InputError(f"{path}: frame {number} cannot be decoded; remove its rows.")

        if frames:
            with local_copy(path) as file:
                for number, pixels in read_frames(file, sorted(frames), on_missing=missing):
                    self._last = path, number, Image.fromarray(pixels)
                    yield from ((row, self._cut(row, self._last[2])) for row in frames[number])

    def _cut(self, row: int, image: Image.Image) -> Image.Image:
        box = self._boxes[row]
        return image if np.isnan(box[0]) else cut(image, box.tolist(), self._paths[row])
